-- Delete tasks in any state; under a lease only when forced.
-- KEYS[1] tag
-- ARGV[1] retention_ms   ARGV[2] "1" also under a lease, "0" not   then ids
-- reply   one letter per id: D deleted, L under a lease, F not found
-- keeps   a deleted task is in no set, body, current or finished record; one that had not ended
--         counts as purged, a dead one as dead_purged, a finished one keeps its count
local K, call, argv = KEYS[1], redis.call, ARGV
local sub = string.sub
--@include time.lua
local ids, seen, letters = { unpack(argv, 3) }, {}, ''
local bucket = math.floor(now / argv[1])
local ended, before = K .. ':f:' .. bucket, K .. ':f:' .. bucket - 1
local current = call('HMGET', K .. ':c', unpack(ids))
for i = 1, #ids do
  local id, is = ids[i], current[i]
  local letter = is and sub(is, 1, 1)
  if seen[id] then
    letters = letters .. 'F'
  elseif letter == 'l' and argv[2] ~= '1' then
    letters = letters .. 'L'
  elseif is then
    seen[id] = true
    if call('ZREM', K .. ':' .. letter, id .. sub(is, 2, 18)) == 0 then
      call('ZREM', K .. ':r', id .. sub(is, 2, 18)) -- 'd' in current, and promoted since
    end
    call('HDEL', K .. ':b', id)
    call('HDEL', K .. ':c', id)
    call('HINCRBY', K .. ':n', letter == 'x' and 'dead_purged' or 'purged', 1)
    letters = letters .. 'D'
  elseif call('HDEL', ended, id) + call('HDEL', before, id) > 0 then
    letters = letters .. 'D'
  else
    letters = letters .. 'F'
  end
end
return letters
