-- Create tasks.
-- KEYS[1] tag
-- ARGV[1] columns that follow member and body: "", "d", "k" or "dk"   ARGV[2] instance[16] retention_ms
--         then per task: member, body (its first byte: "o" wants an outbox entry, "-" does not),
--         d: delay_ms, or -(Unix ms to run at), or 0;  k: idempotency key, or ""
-- reply   one letter per task: R ready, D delayed, E exists under this key; then the id of each E
-- keeps   a task is in body, current and in exactly one of ready and delayed; a key names one task
--         for as long as its bucket lives (retention to twice the retention); created counts tasks
local K, call, argv = KEYS[1], redis.call, ARGV
local sub, byte, format = string.sub, string.byte, string.format
--@include time.lua
--@include wake.lua
local columns, n = argv[1], #argv
local has_delay, has_key = columns == 'd' or columns == 'dk', columns == 'k' or columns == 'dk'
local step = 2 + (has_delay and 1 or 0) + (has_key and 1 or 0)
local found, taken = '', nil

if has_key then
  -- Which keys name a task already, in this call or in one of the two living buckets?
  local retention = tonumber(sub(argv[2], 17))
  local bucket = math.floor(now / retention)
  local place, keys, at = K .. ':i:' .. bucket, {}, {}
  for i = 3, n, step do
    local key = argv[i + step - 1]
    if key ~= '' then
      keys[#keys + 1] = key
      at[#at + 1] = i
    end
  end
  if #keys > 0 then
    local here = call('HMGET', place, unpack(keys))
    local before = call('HMGET', K .. ':i:' .. bucket - 1, unpack(keys))
    local mine, new = {}, {}
    taken = {}
    for j = 1, #keys do
      local key = keys[j]
      local old = here[j] or before[j] or mine[key]
      if old then
        taken[at[j]] = old
      else
        local id = sub(argv[at[j]], 1, 16)
        mine[key] = id
        new[#new + 1] = key
        new[#new + 1] = id
      end
    end
    if #new > 0 then
      call('HSET', place, unpack(new))
      call('PEXPIREAT', place, (bucket + 2) * retention)
    end
  end
end

-- Tables that begin as long as they will be do not grow step by step.
local bodies, ready, delayed = step == 2 and { unpack(argv, 3) } or {}, {}, {}
local current = { unpack(bodies) }
local created, duplicates, r, d = 0, 0, 0, 0
local known, score, state = nil, nil, nil
local other = nil -- letters, where not all are ready
for i = 3, n, step do
  local old = taken and taken[i]
  if old then
    other = other or { string.rep('R', created) }
    other[#other + 1] = 'E'
    found = found .. old
    duplicates = duplicates + 1
  else
    local m, due = argv[i], 0
    local id, tail, k = sub(m, 1, 16), sub(m, 17), created + created
    if has_delay then
      due = tonumber(argv[i + 2])
      if due > 0 then due = now + due else due = -due end
    end
    created = created + 1
    bodies[k + 1] = id
    bodies[k + 2] = argv[i + 1]
    current[k + 1] = id
    if due > now then
      other = other or { string.rep('R', created - 1) }
      other[#other + 1] = 'D'
      current[k + 2] = 'd' .. tail .. stamp
      delayed[d + 1] = due
      delayed[d + 2] = m
      d = d + 2
    else
      if other then other[#other + 1] = 'R' end
      if tail ~= known then
        known = tail
        state = 'r' .. tail .. stamp
        score = format('%.0f', (57 - byte(tail)) * 562949953421312 + us)
      end
      current[k + 2] = state
      ready[r + 1] = score
      ready[r + 2] = m
      r = r + 2
    end
  end
end
if created > 0 then
  call('HSET', K .. ':b', unpack(bodies))
  call('HSET', K .. ':c', unpack(current))
  if r > 0 then
    call('ZADD', K .. ':r', unpack(ready))
    wake(sub(argv[2], 1, 16), r / 2)
  end
  if d > 0 then call('ZADD', K .. ':d', unpack(delayed)) end
  call('HINCRBY', K .. ':n', 'created', created)
end
if duplicates > 0 then call('HINCRBY', K .. ':n', 'duplicates', duplicates) end
return (other and table.concat(other) or string.rep('R', created)) .. found
