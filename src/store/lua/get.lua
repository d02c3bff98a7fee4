-- Read tasks.
-- KEYS[1] tag
-- ARGV[1] retention_ms, then ids
-- reply   per task three elements: what current says, or the finished record, or nil; the score in
--         delayed or leased, or 0; the body, or nil
-- keeps   everything: it writes nothing
local K, call, argv = KEYS[1], redis.call, ARGV
local byte, sub = string.byte, string.sub
--@include time.lua
local bucket = math.floor(now / argv[1])
local ids = { unpack(argv, 2) }
local current = call('HMGET', K .. ':c', unpack(ids))
local bodies = call('HMGET', K .. ':b', unpack(ids))
local ended, before, reply = nil, nil, {}
for i = 1, #ids do
  local is, due = current[i], 0
  if not is then
    ended = ended or call('HMGET', K .. ':f:' .. bucket, unpack(ids))
    before = before or call('HMGET', K .. ':f:' .. bucket - 1, unpack(ids))
    is = ended[i] or before[i]
  elseif byte(is) == 100 then
    due = call('ZSCORE', K .. ':d', ids[i] .. sub(is, 2, 18))
    if not due then is = 'r' .. sub(is, 2) end -- promoted
    due = tonumber(due or 0)
  elseif byte(is) == 108 then
    due = tonumber(call('ZSCORE', K .. ':l', ids[i] .. sub(is, 2, 18)) or 0)
  end
  reply[3 * i - 2] = is
  reply[3 * i - 1] = due
  reply[3 * i] = bodies[i]
end
return reply
