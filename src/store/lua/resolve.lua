-- Included by heartbeat, complete, nack and abandon: which lease does each item name, and is it
-- held? An item's first argument is its reference: a letter, then the member when the letter is
-- lower case, else id and worker. In scope: K, call, argv, now, leased, first and step (place of the
-- items in argv), retention (ms), once (a second reference to one lease in this call is lost),
-- taken (all are tokens, none has run out, and those that were leased have just been taken out).
-- Sets v[i], and gives n and m[i] (member):
--   D held, to be done; L lost; O another worker's; N not leased; F not found;
--   U this token has completed the task already
local sub, byte, num = string.sub, string.byte, tonumber
local n, m, named, strange = 0, {}, nil, nil
v = {}
for i = first, #argv, step do
  n = n + 1
  local ref = argv[i]
  if byte(ref) > 96 then
    m[n] = sub(ref, 2)
  else
    m[n] = ''
    named = named or {}
    named[#named + 1] = sub(ref, 2, 17)
  end
end
if named then
  -- Without a token the worker decides, from what current says.
  local now_at, j = call('HMGET', K .. ':c', unpack(named)), 0
  for i = 1, n do
    if m[i] == '' then
      j = j + 1
      local is = now_at[j]
      if not is then
        strange = true
        v[i] = 'F'
        m[i] = named[j]
      elseif byte(is) ~= 108 then
        v[i] = 'N'
      elseif sub(is, 32) ~= sub(argv[first + (i - 1) * step], 18) then
        v[i] = 'O'
      else
        m[i] = named[j] .. sub(is, 2, 18)
      end
    end
  end
end
local until_ms, seen = nil, once and n > 1 and {}
if taken then
  -- What was leased, current still says.
  local which = {}
  for i = 1, n do which[i] = sub(m[i], 1, 16) end
  until_ms = call('HMGET', K .. ':c', unpack(which))
  for i = 1, n do
    local is = until_ms[i]
    until_ms[i] = is and byte(is) == 108 and sub(is, 2, 18) == sub(m[i], 17) and now + 1
  end
else
  until_ms = call('ZMSCORE', leased, unpack(m))
end
for i = 1, n do
  if not v[i] then
    local deadline = until_ms[i]
    if not deadline then
      strange = true
      v[i] = 'F'
    elseif num(deadline) <= now or seen and seen[m[i]] then
      v[i] = 'L'
    else
      v[i] = 'D'
      if seen then seen[m[i]] = true end
    end
  end
end
if strange then
  -- Off the hot path: tell lost, completed before and not found apart.
  local which, at = {}, {}
  for i = 1, n do
    if v[i] == 'F' then
      which[#which + 1] = sub(m[i], 1, 16)
      at[#at + 1] = i
    end
  end
  local bucket = math.floor(now / retention)
  local is = call('HMGET', K .. ':c', unpack(which))
  local ended = call('HMGET', K .. ':f:' .. bucket, unpack(which))
  local before = call('HMGET', K .. ':f:' .. bucket - 1, unpack(which))
  for j = 1, #at do
    local i = at[j]
    local record, by_token = ended[j] or before[j], #m[i] > 16
    if record then
      v[i] = not by_token and 'N' or sub(record, 2, 18) == sub(m[i], 17) and 'U' or 'L'
    elseif is[j] then
      v[i] = 'L'
    end
  end
end
