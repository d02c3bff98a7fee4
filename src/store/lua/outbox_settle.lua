-- Say how deliveries ended.
-- KEYS[1] tag
-- ARGV    per entry: member, ms until the next try (-1: take it out)
-- reply   number of entries that were still there
-- keeps   tries are counted only for an entry that is in the outbox
local K, call = KEYS[1], redis.call
--@include time.lua
local box, n = K .. ':o', 0
for i = 1, #ARGV, 2 do
  local delay = tonumber(ARGV[i + 1])
  if delay < 0 then
    n = n + call('ZREM', box, ARGV[i])
    call('HDEL', K .. ':ot', ARGV[i])
    if string.sub(ARGV[i], -1) == 'q' then call('HDEL', K .. ':ob', ARGV[i]) end
  elseif call('ZSCORE', box, ARGV[i]) then
    n = n + 1
    call('ZADD', box, now + delay, ARGV[i])
    call('HINCRBY', K .. ':ot', ARGV[i], 1)
  end
end
return n
