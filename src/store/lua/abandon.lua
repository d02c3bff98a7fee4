-- Give leased tasks back at once and take their delivery back: as if they had not been claimed, but
-- at the end of their priority.
-- KEYS[1] tag
-- ARGV[1] instance[16] retention_ms, then per lease: reference (see resolve.lua)
-- reply   now (13 digits) and one letter per lease
-- keeps   only a lease that is held at this moment returns, once, with a generation more and a
--         delivery less
local K, call, argv = KEYS[1], redis.call, ARGV
--@include time.lua
--@include wake.lua
local leased, retention = K .. ':l', string.sub(argv[1], 17)
local first, step, once, taken, v = 2, 1, true, false, nil
--@include resolve.lua
local held, ready, current = {}, {}, {}
for i = 1, n do
  if v[i] == 'D' then
    local old = m[i]
    local id = sub(old, 1, 16)
    local tail = sub(old, 17, 17) .. string.format('%04x', num(sub(old, 18, 21), 16) - 1) ..
      sub(old, 22, 25) .. string.format('%08x', (num(sub(old, 26), 16) + 1) % 4294967296)
    held[#held + 1] = old
    ready[#ready + 1] = (9 - num(sub(old, 17, 17))) * 562949953421312 + us
    ready[#ready + 1] = id .. tail
    current[#current + 1] = id
    current[#current + 1] = 'r' .. tail .. now
  elseif v[i] == 'U' then
    v[i] = 'L'
  end
end
if held[1] then
  call('ZREM', leased, unpack(held))
  call('ZADD', K .. ':r', unpack(ready))
  call('HSET', K .. ':c', unpack(current))
  wake(sub(argv[1], 1, 16), #held)
end
return now .. table.concat(v)
