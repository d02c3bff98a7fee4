-- Included where due tasks become ready (claim, sweep): at most `limit`, earliest first.
-- A promoted task is as old in ready as its due time, so that order holds among those promoted
-- late together. What current says of it stays: 'd' there means delayed, or promoted when delayed has
-- it no more. Defines promote(limit) -> number. In scope: K, call, stamp.
local function promote(limit)
  local sub = string.sub
  local due = call('ZRANGEBYSCORE', K .. ':d', '-inf', stamp, 'WITHSCORES', 'LIMIT', 0, limit)
  local n = #due / 2
  if n == 0 then return 0 end
  local ready = {}
  local known, at, score = nil, nil, nil
  for i = 1, n do
    local m, k = due[i + i - 1], i + i
    local p = sub(m, 17, 17)
    if p ~= known or due[k] ~= at then
      known, at = p, due[k]
      score = string.format('%.0f', (9 - p) * 562949953421312 + (due[k] - 1735689600000) * 1000)
    end
    ready[k - 1] = score
    ready[k] = m
  end
  call('ZREMRANGEBYRANK', K .. ':d', 0, n - 1) -- these very ones: the earliest
  call('ZADD', K .. ':r', unpack(ready))
  return n
end
