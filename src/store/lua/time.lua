-- Included by every script that asks the time. The only clock of the scheduler is Redis's own:
-- now in Unix ms, stamp the same as 13 digits (Redis and Lua format a number anew at each use), us
-- in microseconds since 2025-01-01 (for the ready score: 2^49 us are 17 years).
local t = redis.call('TIME')
local stamp = t[1] .. string.sub('00000' .. t[2], -6, -4)
local now = tonumber(stamp)
local us = (t[1] - 1735689600) * 1000000 + t[2]
