-- End leased tasks, each with a result.
-- KEYS[1] tag
-- ARGV[1] retention_ms, then per lease: reference (see resolve.lua; c or C completed, f or F failed), result
-- reply   now (13 digits) and one letter per lease (resolve.lua; W: done, and an outbox entry made)
-- keeps   only a lease that is held at this moment ends; its task leaves leased, body and current
--         for one finished record (letter, tail of the token, ended ms, size of the body, body,
--         result) and counts once; the same token again finds its record and changes nothing
local K, call, argv = KEYS[1], redis.call, ARGV
--@include time.lua
local leased, retention = K .. ':l', argv[1]
local first, step, once = 2, 2, true
--@include resolve.lua
local held, ids, at, k = {}, {}, {}, 0
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
if k > 0 then
  local bucket = math.floor(now / retention)
  local place, records, outbox, failed = K .. ':f:' .. bucket, {}, {}, 0
  local bodies = call('HMGET', K .. ':b', unpack(ids))
  for j = 1, k do
    local i = at[j]
    local letter, body = byte(argv[2 * i]), bodies[j] or '-'
    if letter == 99 or letter == 67 then
      letter = 'c'
    else
      letter = 'f'
      failed = failed + 1
    end
    records[2 * j - 1] = ids[j]
    records[2 * j] = letter .. sub(held[j], 17) .. now .. string.format('%08d', #body) .. body ..
      argv[2 * i + 1]
    if byte(body) == 111 then
      v[i] = 'W'
      outbox[#outbox + 1] = now
      outbox[#outbox + 1] = ids[j] .. letter
    end
  end
  call('ZREM', leased, unpack(held))
  call('HSET', place, unpack(records))
  call('PEXPIREAT', place, (bucket + 2) * retention)
  call('HDEL', K .. ':b', unpack(ids))
  call('HDEL', K .. ':c', unpack(ids))
  if k > failed then call('HINCRBY', K .. ':n', 'completed', k - failed) end
  if failed > 0 then call('HINCRBY', K .. ':n', 'failed', failed) end
  if outbox[1] then call('ZADD', K .. ':o', unpack(outbox)) end
end
return now .. table.concat(v)
