-- Put queue-ready notices for those subscribers who may be told now into the tenant's outbox.
-- KEYS[1] {tenant}
-- ARGV[1] name of the group's counter, or "": all candidates
-- ARGV    then per candidate: subscription id, least ms between two notices, outbox member, record
-- reply   number of notices
-- keeps   at most one notice an interval, whichever codeqd asks; of a group one member, in turn; a
--         notice's record (K:ob) lives as long as its entry (K:o)
local K, call, n = KEYS[1], redis.call, (#ARGV - 1) / 4
--@include time.lua
local sent = 0
local function tell(k)
  local i = 2 + 4 * k
  if not call('SET', K .. ':subs:last:' .. ARGV[i], '1', 'NX', 'PX', ARGV[i + 1]) then return end
  call('ZADD', K .. ':o', now, ARGV[i + 2])
  call('HSET', K .. ':ob', ARGV[i + 2], ARGV[i + 3])
  sent = sent + 1
end
if ARGV[1] == '' then
  for k = 0, n - 1 do tell(k) end
  return sent
end
local counter = K .. ':subs:turn:' .. ARGV[1]
local turn = call('INCR', counter) - 1
call('PEXPIRE', counter, 86400000)
for k = 0, n - 1 do
  tell((turn + k) % n)
  if sent > 0 then return sent end
end
return 0
