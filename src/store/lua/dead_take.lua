-- Replay dead letters (ready again, as if never delivered) or purge them.
-- KEYS[1] tag
-- ARGV[1] "r" replay or "p" purge, then instance[16]   ARGV[2] only who died by then, Unix ms   ARGV[3] at most so many
--         then ids: only these; none: the longest dead
-- reply   {taken, dead in all after that}
-- keeps   a task that leaves dead is in ready with a new generation and no attempts, or gone with
--         its body and current; replayed or dead_purged counts it once
local K, call, argv = KEYS[1], redis.call, ARGV
local sub = string.sub
--@include time.lua
--@include wake.lua
local members = {}
if argv[4] then
  local ids, seen = { unpack(argv, 4) }, {}
  local current = call('HMGET', K .. ':c', unpack(ids))
  for i = 1, #ids do
    local is = current[i]
    if is and sub(is, 1, 1) == 'x' and not seen[ids[i]] then
      seen[ids[i]] = true
      members[#members + 1] = ids[i] .. sub(is, 2, 18)
    end
  end
else
  members = call('ZRANGEBYSCORE', K .. ':x', '-inf', argv[2], 'LIMIT', 0, argv[3])
end
local n = #members
if n > 0 then
  local ids, ready, current = {}, {}, {}
  for i = 1, n do
    local m = members[i]
    local id = sub(m, 1, 16)
    local tail = sub(m, 17, 17) .. '0000' .. sub(m, 22, 25) ..
      string.format('%08x', (tonumber(sub(m, 26), 16) + 1) % 4294967296)
    ids[i] = id
    ready[2 * i - 1] = (9 - tonumber(sub(m, 17, 17))) * 562949953421312 + us
    ready[2 * i] = id .. tail
    current[2 * i - 1] = id
    current[2 * i] = 'r' .. tail .. now
  end
  call('ZREM', K .. ':x', unpack(members))
  if sub(argv[1], 1, 1) == 'r' then
    call('ZADD', K .. ':r', unpack(ready))
    wake(sub(argv[1], 2), n)
    call('HSET', K .. ':c', unpack(current))
    call('HINCRBY', K .. ':n', 'replayed', n)
  else
    call('HDEL', K .. ':b', unpack(ids))
    call('HDEL', K .. ':c', unpack(ids))
    call('HINCRBY', K .. ':n', 'dead_purged', n)
  end
end
return { n, call('ZCARD', K .. ':x') }
