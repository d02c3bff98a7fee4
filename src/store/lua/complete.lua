-- End leased tasks, each with a result.
-- KEYS[1] tag
-- ARGV[1] retention_ms, then per lease: reference (see resolve.lua; c or C completed, f or F failed), result
-- reply   now (13 digits) and one letter per lease (resolve.lua; W: done, and an outbox entry made)
-- keeps   only a lease that is held at this moment ends; its task leaves leased, body and current
--         for one finished record (letter, tail of the token, ended ms, size of the body, body,
--         result) and counts once; the same token again finds its record and changes nothing
local K, call, argv = KEYS[1], redis.call, ARGV
local sub, byte, num, format = string.sub, string.byte, tonumber, string.format
--@include time.lua
local leased, retention = K .. ':l', num(argv[1])
-- held: members that end; ids: theirs; at: their items; v: letters, nil where all are done.
local k, held, ids, at, v = (#argv - 1) / 2, {}, {}, nil, nil
local simple = true
for i = 1, k do
  local ref = argv[i + i]
  simple = simple and byte(ref) > 96
  held[i] = sub(ref, 2)
  ids[i] = sub(ref, 2, 17)
end
-- Where no lease has run out and each item has its token, taking the leases out tells whether they
-- were there: all of them, as a rule.
local taken = simple and call('ZCOUNT', leased, '-inf', stamp) == 0
if not taken or call('ZREM', leased, unpack(held)) < k then
  local first, step, once = 2, 2, true
  --@include resolve.lua
  k, held, ids, at = 0, {}, {}, {}
  for i = 1, n do
    if v[i] == 'D' then
      k = k + 1
      held[k] = m[i]
      ids[k] = sub(m[i], 1, 16)
      at[k] = i
    elseif v[i] == 'L' and seen and seen[m[i]] and byte(argv[2 * i]) > 96 then
      v[i] = 'U'
    end
  end
  if k > 0 and not taken then call('ZREM', leased, unpack(held)) end
end
if k > 0 then
  local bucket = math.floor(now / retention)
  local place, records, outbox, failed = K .. ':f:' .. bucket, { unpack(ids) }, nil, 0
  local bodies = call('HMGET', K .. ':b', unpack(ids))
  local known, kind, size, head = nil, nil, nil, nil
  for j = 1, k do
    local i = at and at[j] or j
    local letter, body = byte(argv[i + i]), bodies[j] or '-'
    if letter == 99 or letter == 67 then
      letter = 'c'
    else
      letter = 'f'
      failed = failed + 1
    end
    records[j + j - 1] = ids[j]
    local tail = sub(held[j], 17)
    if tail ~= known or letter ~= kind or #body ~= size then
      known, kind, size = tail, letter, #body
      head = letter .. tail .. stamp .. format('%08d', size)
    end
    records[j + j] = head .. body .. argv[i + i + 1]
    if byte(body) == 111 then
      outbox = outbox or {}
      outbox[#outbox + 1] = stamp
      outbox[#outbox + 1] = ids[j] .. letter
      if not v then
        v = {}
        for x = 1, k do v[x] = 'D' end
      end
      v[i] = 'W'
    end
  end
  if call('HSET', place, unpack(records)) == call('HLEN', place) then
    call('PEXPIREAT', place, (bucket + 2) * retention)
  end
  call('HDEL', K .. ':b', unpack(ids))
  call('HDEL', K .. ':c', unpack(ids))
  if k > failed then call('HINCRBY', K .. ':n', 'completed', k - failed) end
  if failed > 0 then call('HINCRBY', K .. ':n', 'failed', failed) end
  if outbox then call('ZADD', K .. ':o', unpack(outbox)) end
end
return stamp .. (v and table.concat(v) or string.rep('D', k))
