-- Take one token out of a bucket.
-- KEYS[1] bucket: "tokens ms", as they were at that time; absent when full
-- ARGV[1] tokens a minute   ARGV[2] size of the bucket
-- reply   0: taken; else ms until there is one
-- keeps   0 <= tokens <= size; a refusal changes nothing, so that asking again costs no patience
local call, rate, size = redis.call, tonumber(ARGV[1]), tonumber(ARGV[2])
--@include time.lua
local tokens, at = string.match(call('GET', KEYS[1]) or '', '^(%S+) (%d+)$')
tokens, at = tonumber(tokens or size), tonumber(at or now)
if now > at then tokens = tokens + (now - at) * rate / 60000 end
if tokens > size then tokens = size end
-- A clock that went back must not take tokens away, nor give them twice.
if now < at then now = at end
if tokens < 1 then return math.max(1, math.ceil((1 - tokens) * 60000 / rate - 1e-6)) end
tokens = tokens - 1
call('SET', KEYS[1], string.format('%.12g %d', tokens, now), 'PX',
  math.ceil((size - tokens) * 60000 / rate) + 1000)
return 0
