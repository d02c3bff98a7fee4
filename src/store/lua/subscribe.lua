-- Keep a subscription, or extend one.
-- KEYS[1] {tenant}
-- ARGV[1] id   ARGV[2] ttl in ms   ARGV[3] record, or "" to extend what is there
-- ARGV[4] most subscriptions of the tenant
-- reply   Unix ms of its end; 0: no such subscription; -1: too many
-- keeps   K:subs (record) and K:subs:end (end) name the same ids
local K, call, id = KEYS[1], redis.call, ARGV[1]
--@include time.lua
local gone = call('ZRANGEBYSCORE', K .. ':subs:end', '-inf', now, 'LIMIT', 0, 100)
if gone[1] then
  call('ZREM', K .. ':subs:end', unpack(gone))
  call('HDEL', K .. ':subs', unpack(gone))
end
if ARGV[3] == '' then
  if call('HEXISTS', K .. ':subs', id) == 0 then return 0 end
else
  if call('HLEN', K .. ':subs') >= tonumber(ARGV[4]) then return -1 end
  call('HSET', K .. ':subs', id, ARGV[3])
end
call('ZADD', K .. ':subs:end', now + tonumber(ARGV[2]), id)
return now + tonumber(ARGV[2])
