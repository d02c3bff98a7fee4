-- Take ready tasks under a lease, after taking back what has expired and promoting what is due.
-- KEYS[1] tag
-- ARGV[1] backoff policy, "kind base_ms max_ms seed instance"; in front of the instance "w" where
--         some claimer waits, so that it is told of later work when there is too little now
--         then per claimer, in the order in which they are served: count, lease_ms, worker
-- reply   {now, or -now where tasks have gone to the dead letters, or, where a claimer waits and there
--         is too little, text of that and of the next deadline or due time (0: none); then member, body, member, body, ...}: dealt to the claimers in order, each its count
-- keeps   a task that left ready is in leased, under one member that no other claim has had, with
--         one delivery and one generation more; its deadline is the claimer's lease from now
local K, call, argv = KEYS[1], redis.call, ARGV
local sub, num, format = string.sub, tonumber, string.format
--@include time.lua
local leased, moved, first = K .. ':l', 0, now
if call('ZCOUNT', leased, '-inf', stamp) > 0 then
  --@include give_back.lua
  local expired = call('ZRANGEBYSCORE', leased, '-inf', stamp, 'LIMIT', 0, 256)
  call('ZREM', leased, unpack(expired))
  call('HINCRBY', K .. ':n', 'reaped', #expired)
  local _, dead
  _, dead, moved = give_back(expired, {}, nil, argv[1])
  if dead > 0 then first = -now end
end
if call('ZCOUNT', K .. ':d', '-inf', stamp) > 0 then
  --@include promote.lua
  moved = moved + promote(256)
end

local want = num(argv[2])
for i = 5, #argv, 3 do want = want + argv[i] end
-- Of one the score comes with it; of more it is cheaper not to have Redis write the scores down.
local ready, got = K .. ':r', nil
if want == 1 then
  got = call('ZPOPMIN', ready)
  got[2] = nil
else
  got = call('ZRANGE', ready, 0, want - 1)
  call('ZREMRANGEBYRANK', ready, 0, want - 1)
end
local n = #got
if moved > n then
  -- More than this call takes has become ready, and only this call knows.
  --@include wake.lua
  wake('', moved - n)
end
if n < want and string.byte(argv[1], -17) == 119 then
  call('ZADD', K .. ':w', now + 35000, sub(argv[1], -16))
  call('PEXPIRE', K .. ':w', 70000)
  -- And it must know when something here becomes due, whoever has given out that lease.
  local l, d = call('ZRANGE', leased, 0, 0, 'WITHSCORES')[2], call('ZRANGE', K .. ':d', 0, 0, 'WITHSCORES')[2]
  local due = l and d and math.min(l, d) or num(l or d or 0)
  first = format('%.0f %.0f', first, due)
end
if n == 0 then return { first } end
-- As long as they will be, or half, so that they need not grow step by step.
local ids, leases, current, reply = { unpack(got) }, { unpack(got) }, { unpack(got) }, { first, unpack(got) }
local at, left = 2, num(argv[2])
local lease, name = argv[3], argv[4]
local deadline, worker = format('%.0f', now + lease), stamp .. name
local known, tail, state = nil, nil, nil
for i = 1, n do
  while left == 0 do
    at = at + 3
    left = num(argv[at])
    if lease ~= argv[at + 1] then
      lease = argv[at + 1]
      deadline = format('%.0f', now + lease)
    end
    if name ~= argv[at + 2] then
      name = argv[at + 2]
      worker = stamp .. name
      state = tail and 'l' .. tail .. worker
    end
  end
  left = left - 1
  local m, k = got[i], i + i
  local id, old = sub(m, 1, 16), sub(m, 17)
  if old ~= known then
    known = old
    tail = sub(old, 1, 1) .. format('%04x', num(sub(old, 2, 5), 16) + 1) .. sub(old, 6, 9) ..
      format('%08x', (num(sub(old, 10), 16) + 1) % 4294967296)
    state = 'l' .. tail .. worker
  end
  m = id .. tail
  ids[i] = id
  leases[k - 1] = deadline
  leases[k] = m
  current[k - 1] = id
  current[k] = state
  reply[k] = m
end
call('ZADD', leased, unpack(leases))
call('HSET', K .. ':c', unpack(current))
local bodies = call('HMGET', K .. ':b', unpack(ids))
for i = 1, n do reply[i + i + 1] = bodies[i] end
return reply
