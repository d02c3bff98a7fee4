-- Read a part of a tenant's queues.
-- KEYS[1] {tenant}:queues   hash: command -> "number shards"
-- ARGV[1] cursor, 0 to begin with
-- reply   {cursor to go on with, 0 when it was the last part; per queue "number shards bytes" and a
--         line feed, then the command of so many bytes}
-- keeps   everything: it writes nothing; a queue may come twice
local part = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 256)
local pairs_of, out = part[2], {}
for i = 1, #pairs_of, 2 do
  out[i] = pairs_of[i + 1] .. ' ' .. #pairs_of[i] .. '\n'
  out[i + 1] = pairs_of[i]
end
return { part[1], table.concat(out) }
