-- Take webhook deliveries that are due, for a while.
-- KEYS[1] tag
-- ARGV[1] most entries   ARGV[2] ms after which an entry that was not settled is due again
-- reply   ms until the next one is due (-1: none left), then per entry: member, tries so far
--         (member: id and c completed, f failed, x dead; or id and q for a notice, see notify.lua)
-- keeps   an entry leaves the outbox only by outbox_settle, so a dead codeqd delays it and loses none
local K, call = KEYS[1], redis.call
--@include time.lua
local box = K .. ':o'
local due = call('ZRANGEBYSCORE', box, '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
local out = { -1 }
for i = 1, #due do
  call('ZADD', box, now + tonumber(ARGV[2]), due[i])
  out[2 * i] = due[i]
  out[2 * i + 1] = tonumber(call('HGET', K .. ':ot', due[i]) or 0)
end
local first = call('ZRANGE', box, 0, 0, 'WITHSCORES')
if first[2] then
  out[1] = tonumber(first[2]) - now
  if out[1] < 0 then out[1] = 0 end
end
return out
