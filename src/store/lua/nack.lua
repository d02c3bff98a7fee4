-- Give leased tasks back: to delayed or ready, or to the dead letters when their attempts are spent.
-- KEYS[1] tag
-- ARGV[1] retention_ms   ARGV[2] backoff policy, "kind base_ms max_ms seed instance"
--         then per lease: reference (see resolve.lua), delay_ms (<= 0: by the policy), reason
-- reply   {letters, delay_ms per D}: one letter per lease, X instead of D for one that went dead
-- keeps   only a lease that is held at this moment returns, once, with a generation more
local K, call, argv = KEYS[1], redis.call, ARGV
--@include time.lua
--@include wake.lua
--@include give_back.lua
local leased, retention = K .. ':l', argv[1]
local first, step, once, taken, v = 3, 3, true, false, nil
--@include resolve.lua
local held, delays, reasons, reply = {}, {}, {}, {}
for i = 1, n do
  if v[i] == 'D' then
    held[#held + 1] = m[i]
    delays[#held] = argv[3 * i + 1]
    reasons[#held] = argv[3 * i + 2]
  elseif v[i] == 'U' then
    v[i] = 'L'
  end
end
if held[1] then
  call('ZREM', leased, unpack(held))
  local out, _, ready = give_back(held, delays, reasons, argv[2])
  if ready > 0 then wake(sub(argv[2], -16), ready) end
  local j = 0
  for i = 1, n do
    if v[i] == 'D' then
      j = j + 1
      if out[j] < 0 then v[i] = 'X' else reply[#reply + 1] = out[j] end
    end
  end
end
return { table.concat(v), unpack(reply) }
