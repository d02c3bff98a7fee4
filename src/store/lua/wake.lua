-- Included where tasks become ready. Defines wake(self, tasks): tell every codeqd that has claims
-- waiting here, but for the caller itself (it tells its own), and forget that they wait: their
-- claims look again, and the look that finds nothing registers anew. In scope: K, call, now.
local function wake(self, tasks)
  local w = call('ZRANGE', K .. ':w', 0, -1, 'WITHSCORES')
  for i = 1, #w, 2 do
    local live = tonumber(w[i + 1]) > now
    if w[i] ~= self or not live then
      call('ZREM', K .. ':w', w[i])
      if live then call('PUBLISH', 'codeq:' .. w[i], K .. ' ' .. tasks) end
    end
  end
end
