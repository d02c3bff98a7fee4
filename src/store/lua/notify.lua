-- May a subscriber be told now? Also whose turn it is in a group.
-- KEYS[1] {tenant}
-- ARGV[1] name of the group's counter, or ""   ARGV[2] members of the group
-- ARGV    then per candidate: id, least ms between two notices
-- reply   with a group: index from 1 of the one member whose turn it is and who may be told, or 0;
--         without: one 1 or 0 per candidate
-- keeps   at most one notice an interval, whichever codeqd asks
local K, call = KEYS[1], redis.call
local function may(i)
  return call('SET', K .. ':subs:last:' .. ARGV[i], '1', 'NX', 'PX', ARGV[i + 1]) and 1 or 0
end
if ARGV[1] ~= '' then
  local n = tonumber(ARGV[2])
  local turn = call('INCR', K .. ':subs:turn:' .. ARGV[1])
  call('PEXPIRE', K .. ':subs:turn:' .. ARGV[1], 86400000)
  for k = 0, n - 1 do
    local i = (turn - 1 + k) % n
    if may(3 + 2 * i) == 1 then return { i + 1 } end
  end
  return { 0 }
end
local out = {}
for i = 3, #ARGV, 2 do out[#out + 1] = may(i) end
return out
