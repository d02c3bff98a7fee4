-- Count one queue shard.
-- KEYS[1] tag
-- reply   {ready, delayed, leased, dead now, created, completed, failed, dead, purged, replayed,
--         dead purged, duplicates, reaped, Unix ms since when the oldest ready task is ready or 0}
-- keeps   everything: it writes nothing
local K, call = KEYS[1], redis.call
local reply = {
  call('ZCARD', K .. ':r'), call('ZCARD', K .. ':d'), call('ZCARD', K .. ':l'), call('ZCARD', K .. ':x'),
}
local counts = call('HMGET', K .. ':n', 'created', 'completed', 'failed', 'dead', 'purged', 'replayed',
  'dead_purged', 'duplicates', 'reaped')
for i = 1, 9 do reply[4 + i] = tonumber(counts[i] or 0) end
local oldest
if reply[1] > 0 then
  for p = 0, 9 do
    local first = call('ZRANGEBYSCORE', K .. ':r', p * 562949953421312,
      '(' .. string.format('%.0f', (p + 1) * 562949953421312), 'WITHSCORES', 'LIMIT', 0, 1)
    local us = first[2] and first[2] - p * 562949953421312
    if us and (not oldest or us < oldest) then oldest = us end
  end
end
reply[14] = oldest and math.floor(oldest / 1000) + 1735689600000 or 0
return reply
