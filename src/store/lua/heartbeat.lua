-- Extend leases: the new deadline is now plus what is asked.
-- KEYS[1] tag
-- ARGV[1] retention_ms, then per lease: reference (see resolve.lua), extend_ms
-- reply   now (13 digits) and one letter per lease
-- keeps   only a lease that is held at this moment gets a new deadline
local K, call, argv = KEYS[1], redis.call, ARGV
--@include time.lua
local leased, retention = K .. ':l', argv[1]
local first, step, once, taken, v = 2, 2, false, false, nil
--@include resolve.lua
local z, letters = {}, ''
for i = 1, n do
  local letter = v[i]
  if letter == 'D' then
    z[#z + 1] = now + argv[2 * i + 1]
    z[#z + 1] = m[i]
  elseif letter == 'U' then
    letter = 'L'
  end
  letters = letters .. letter
end
if z[1] then call('ZADD', leased, 'XX', unpack(z)) end
return stamp .. letters
