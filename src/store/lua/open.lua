-- Check the layout of what this Redis holds, and give the caller a number of its own.
-- KEYS[1] {codeq}:meta   hash: format, makers
-- ARGV[1] the format this library knows
-- reply   {format found, maker's number}; the number is 0 when the formats differ
-- keeps   no two stores have had the same number on this Redis; an empty Redis takes the caller's format
local format = redis.call('HGET', KEYS[1], 'format')
if not format then
  redis.call('HSET', KEYS[1], 'format', ARGV[1])
  format = ARGV[1]
end
if format ~= ARGV[1] then return { format, 0 } end
-- Behind a write that a full Redis allows it allows this one too: who works it off may start.
redis.call('ZREM', KEYS[1] .. ':none', '')
return { format, redis.call('HINCRBY', KEYS[1], 'makers', 1) }
