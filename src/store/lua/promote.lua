-- Included where due tasks become ready (claim, sweep): at most `limit`, earliest first.
-- A promoted task is as old in ready as its due time, so that order holds among those promoted
-- late together. What current says of it stays: 'd' there means delayed, or promoted when delayed has
-- it no more. Defines promote(limit) -> number. In scope: K, call, stamp.
local function promote(limit)
  local byte = string.byte
  local place, ready = K .. ':d', {}
  local due = call('ZRANGEBYSCORE', place, '-inf', stamp, 'LIMIT', 0, limit)
  local n = #due
  if n == 0 then return 0 end
  -- Scores are dear to read (17 digits each, and back): where the first and the last are due at the
  -- same time, so are all.
  local at = call('ZRANGE', place, 0, 0, 'WITHSCORES')[2]
  local each = n > 1 and at ~= call('ZSCORE', place, due[n]) and
    call('ZRANGE', place, 0, n - 1, 'WITHSCORES')
  local known, since, score = nil, nil, nil
  for i = 1, n do
    local m, k = due[i], i + i
    local p = byte(m, 17)
    if each then at = each[k] end
    if p ~= known or at ~= since then
      known, since = p, at
      score = string.format('%.0f', (57 - p) * 562949953421312 + (at - 1735689600000) * 1000)
    end
    ready[k - 1] = score
    ready[k] = m
  end
  call('ZREMRANGEBYRANK', place, 0, n - 1) -- these very ones: the earliest
  call('ZADD', K .. ':r', unpack(ready))
  return n
end
