-- Write a topic of the catalog.
-- KEYS[1] {tenant}:topics
-- ARGV[1] name   ARGV[2] policy (canonical text)   ARGV[3] most topics of the tenant
-- reply   "created", "same" or "changed" (or "full"), then version, created ms, updated ms
-- keeps   version grows by one exactly when the policy's text changes
local call = redis.call
--@include time.lua
local old = call('HGET', KEYS[1], ARGV[1])
if not old then
  if call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return { 'full', 0, 0, 0 } end
  call('HSET', KEYS[1], ARGV[1], '1 ' .. now .. ' ' .. now .. ' ' .. ARGV[2])
  return { 'created', 1, now, now }
end
local version, made, changed, policy = string.match(old, '^(%d+) (%d+) (%d+) (.*)$')
if policy == ARGV[2] then
  return { 'same', tonumber(version), tonumber(made), tonumber(changed) }
end
version = tonumber(version) + 1
call('HSET', KEYS[1], ARGV[1], version .. ' ' .. made .. ' ' .. now .. ' ' .. ARGV[2])
return { 'changed', version, tonumber(made), now }
