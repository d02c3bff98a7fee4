-- Included where leased tasks return (claim, sweep, nack). Defines
--   give_back(members, delays, reasons, policy) -> delay_ms per task (-1: dead), number of dead, of ready
-- The caller has taken the members out of leased. Each goes to the dead letters when its attempts
-- are spent, else to delayed or, without a delay, to ready; its generation grows. A delay <= 0 or
-- none is computed from policy, "kind base_ms max_ms seed instance", as sched/backoff.c does it.
-- In scope: K, call, now, stamp, us.
local function give_back(members, delays, reasons, policy)
  local sub, num, format, floor = string.sub, tonumber, string.format, math.floor
  local kind, base, max, seed = string.match(policy, '^(%d) (%d+) (%d+) (%d+) ')
  base, max, seed = num(base), num(max), num(seed)
  local ready, delayed, dead, current, out = {}, {}, {}, {}, {}
  for i = 1, #members do
    local m = members[i]
    local id, attempts = sub(m, 1, 16), num(sub(m, 18, 21), 16)
    local tail = sub(m, 17, 25) .. format('%08x', (num(sub(m, 26), 16) + 1) % 4294967296)
    local state
    if attempts >= num(sub(m, 22, 25), 16) then
      state = 'x'
      dead[#dead + 1] = stamp
      dead[#dead + 1] = id .. tail
      out[i] = -1
    else
      local delay = num(delays[i] or 0)
      if delay <= 0 then
        if kind == '0' then
          delay = base
        elseif kind == '1' then
          delay = base * attempts
        else
          delay = base
          for _ = 1, attempts do
            if delay == 0 or delay >= max then break end
            delay = delay * 2
          end
          if delay > max then delay = max end
          if kind ~= '2' then
            local least = kind == '3' and floor(delay / 2) or 0
            local x = (seed + i - 1) % 2147483646 + 1
            x = x * 48271 % 2147483647
            x = x * 48271 % 2147483647
            delay = least + floor(x / 2147483647 * (delay - least + 1))
          end
        end
      end
      if delay > max then delay = max end
      out[i] = delay
      if delay == 0 then
        state = 'r'
        ready[#ready + 1] = (9 - num(sub(m, 17, 17))) * 562949953421312 + us
        ready[#ready + 1] = id .. tail
      else
        state = 'd'
        delayed[#delayed + 1] = now + delay
        delayed[#delayed + 1] = id .. tail
      end
    end
    current[#current + 1] = id
    current[#current + 1] = state .. tail .. stamp .. (reasons and reasons[i] or 'LEASE_EXPIRED')
  end
  if ready[1] then call('ZADD', K .. ':r', unpack(ready)) end
  if delayed[1] then call('ZADD', K .. ':d', unpack(delayed)) end
  call('HSET', K .. ':c', unpack(current))
  if dead[1] then
    call('ZADD', K .. ':x', unpack(dead))
    call('HINCRBY', K .. ':n', 'dead', #dead / 2)
    local ids, due = {}, {}
    for i = 2, #dead, 2 do ids[i / 2] = sub(dead[i], 1, 16) end
    local bodies = call('HMGET', K .. ':b', unpack(ids))
    for i = 1, #ids do
      if bodies[i] and string.byte(bodies[i]) == 111 then
        due[#due + 1] = stamp
        due[#due + 1] = ids[i] .. 'x'
      end
    end
    if due[1] then call('ZADD', K .. ':o', unpack(due)) end
  end
  return out, #dead / 2, #ready / 2
end
