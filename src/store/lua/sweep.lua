-- Take back expired leases and promote due tasks, earliest first; for the background sweep.
-- KEYS[1] tag
-- ARGV[1] backoff policy, "kind base_ms max_ms seed instance"   ARGV[2] at most so many of each (1..256)
-- reply   {reaped, dead, promoted, next deadline or due time in Unix ms or 0, now}
-- keeps   what claim keeps of both; the counters
local K, call, argv = KEYS[1], redis.call, ARGV
--@include time.lua
--@include wake.lua
--@include give_back.lua
--@include promote.lua
local leased, dead, ready = K .. ':l', 0, 0
local expired = call('ZRANGEBYSCORE', leased, '-inf', now, 'LIMIT', 0, argv[2])
if expired[1] then
  call('ZREM', leased, unpack(expired))
  call('HINCRBY', K .. ':n', 'reaped', #expired)
  local _
  _, dead, ready = give_back(expired, {}, nil, argv[1])
end
local promoted = promote(argv[2])
if promoted + ready > 0 then wake(string.sub(argv[1], -16), promoted + ready) end
local a = call('ZRANGE', leased, 0, 0, 'WITHSCORES')
local b = call('ZRANGE', K .. ':d', 0, 0, 'WITHSCORES')
local due = tonumber(a[2] or b[2] or 0)
if a[2] and b[2] then due = math.min(a[2], b[2]) end
return { #expired, dead, promoted, due, now }
