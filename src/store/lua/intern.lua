-- Give a command of a tenant its queue number, a new one when it is new.
-- KEYS[1] {tenant}:queues   hash: command -> "number shards"
-- ARGV[1] command   ARGV[2] shard count of a new queue
-- reply   "number shards"; "" when all 65,536 numbers are taken
--         a new one is published to codeq:queues, for claims that wait for all of a tenant's
-- keeps   numbers are 0, 1, 2, ... without gaps, and never change hands: a queue is never removed
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then return old end
local number = redis.call('HLEN', KEYS[1])
if number > 65535 then return '' end
local new = number .. ' ' .. ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], new)
redis.call('PUBLISH', 'codeq:queues', KEYS[1])
return new
