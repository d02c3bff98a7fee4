-- All living subscriptions of a tenant.
-- KEYS[1] {tenant}
-- reply   per subscription: id, record
local K, call = KEYS[1], redis.call
--@include time.lua
local gone = call('ZRANGEBYSCORE', K .. ':subs:end', '-inf', now, 'LIMIT', 0, 100)
if gone[1] then
  call('ZREM', K .. ':subs:end', unpack(gone))
  call('HDEL', K .. ':subs', unpack(gone))
end
return call('HGETALL', K .. ':subs')
