-- Delete a part of the finished tasks that have outlived their time.
-- KEYS[1] tag
-- ARGV[1] retention_ms   ARGV[2] those that ended by then, Unix ms   ARGV[3] at most so many
-- ARGV[4] cursor, "0 0" to begin with
-- reply   {deleted, cursor to go on with or ""}
-- keeps   everything but finished records: what waits, is leased or dead stays; the counters stay
local K, call, sub = KEYS[1], redis.call, string.sub
--@include time.lua
local which, cursor = string.match(ARGV[4], '^(%d) (%d+)$')
local bucket = math.floor(now / ARGV[1]) - 1 + which
local ended_by, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local place, gone = K .. ':f:' .. bucket, {}
if bucket * ARGV[1] <= ended_by then
  local part = call('HSCAN', place, cursor, 'COUNT', 64)
  cursor = part[1]
  for i = 1, #part[2], 2 do
    if #gone == most then break end
    if tonumber(sub(part[2][i + 1], 19, 31)) <= ended_by then gone[#gone + 1] = part[2][i] end
  end
  if gone[1] then call('HDEL', place, unpack(gone)) end
else
  cursor = '0'
end
if cursor ~= '0' then return { #gone, which .. ' ' .. cursor } end
return { #gone, which == '0' and '1 0' or '' }
