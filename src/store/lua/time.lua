-- Included by every script that asks the time. The only clock of the scheduler is Redis's own:
-- now in Unix ms, us in microseconds since 2025-01-01 (for the ready score: 2^49 us are 17 years).
local t = redis.call('TIME')
local now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
local us = (t[1] - 1735689600) * 1000000 + t[2]
