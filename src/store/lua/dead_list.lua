-- Read a page of the dead letters, longest dead first.
-- KEYS[1] tag
-- ARGV[1] how many to skip   ARGV[2] at most so many (1..100)
-- reply   {dead in all, then per task: member, died ms, what current says, body}
-- keeps   everything: it writes nothing
local K, call = KEYS[1], redis.call
local from = tonumber(ARGV[1])
local page = call('ZRANGE', K .. ':x', from, from + ARGV[2] - 1, 'WITHSCORES')
local reply = { call('ZCARD', K .. ':x') }
if not page[1] then return reply end
local ids = {}
for i = 1, #page, 2 do ids[#ids + 1] = string.sub(page[i], 1, 16) end
local current = call('HMGET', K .. ':c', unpack(ids))
local bodies = call('HMGET', K .. ':b', unpack(ids))
for i = 1, #ids do
  reply[4 * i - 2] = page[2 * i - 1]
  reply[4 * i - 1] = tonumber(page[2 * i])
  reply[4 * i] = current[i]
  reply[4 * i + 1] = bodies[i]
end
return reply
