-- Included where due tasks become ready (claim, sweep): at most `limit`, earliest first.
-- A promoted task is as old in ready as its due time, so that order holds among those promoted
-- late together. Defines promote(limit) -> number. In scope: K, call, now.
local function promote(limit)
  local sub = string.sub
  local due = call('ZRANGEBYSCORE', K .. ':d', '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
  if not due[1] then return 0 end
  local members, ids, ready, current = {}, {}, {}, {}
  for i = 1, #due, 2 do
    local m = due[i]
    members[#members + 1] = m
    ids[#ids + 1] = sub(m, 1, 16)
    ready[i] = (9 - tonumber(sub(m, 17, 17))) * 562949953421312 +
      (due[i + 1] - 1735689600000) * 1000
    ready[i + 1] = m
  end
  local old = call('HMGET', K .. ':c', unpack(ids))
  for i = 1, #ids do
    current[2 * i - 1] = ids[i]
    current[2 * i] = 'r' .. sub(members[i], 17) .. now .. sub(old[i] or '', 32)
  end
  call('ZREM', K .. ':d', unpack(members))
  call('ZADD', K .. ':r', unpack(ready))
  call('HSET', K .. ':c', unpack(current))
  return #ids
end
