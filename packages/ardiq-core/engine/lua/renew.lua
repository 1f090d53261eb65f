-- renew: sign a worker on, or extend its lease.
--
-- KEYS  workers, worker info, pulse, waiters, streams
-- ARGV  group, worker, lease in ms, info (msgpack, for people), "1" to sign on or "0" to extend,
--       time at which this call was expected in ms (see leases.lua), a channel for results
-- out   now, 1 held or 0 lost (never signed on, or declared dead: another worker has taken over its
--       work, or will), number of the worker's pending deliveries, 1 if this user cannot publish
--       (else 0)
-- Takeovers and signing off remove the worker's information together with its lease. If only the
-- lease is missing, it was deleted by hand: the worker still owns its deliveries and gets it back.
-- A worker that cannot publish says so in `waiters`, so that waiting callers check again soon.
local workers, info, pulse, waiters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local FIRST_STREAM = 5
local group, worker, lease_ms, description = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local signs_on, expected = ARGV[5] == '1', ARGV[6]
local is_mute = not may('PUBLISH', ARGV[7], '')
expect('zset', workers)
expect('hash', info)
need(workers, 'ZADD', 'ZRANGEBYSCORE', 'ZSCORE', 'HSET', 'XPENDING', 'GET', 'SET')
keep_time(pulse, workers, expected)
if not signs_on then
  local lease = call('ZSCORE', workers, worker)
  if lease and tonumber(lease) < 0 or not lease and redis.pcall('HEXISTS', info, worker) ~= 1 then
    drop_pulse(pulse, workers)
    return { now, 0, 0, is_mute and 1 or 0 }
  end
end
call('ZADD', workers, now + lease_ms, worker)
call('HSET', info, worker, description)
if is_mute then
  local known = tonumber(string.match(ask('HGET', waiters, '') or '', '^%- (%d+)\n$')) or 0
  redis.pcall('HSET', waiters, '', string.format('- %.0f\n', math.max(known, now + lease_ms)))
end
local delivered = 0
for i = FIRST_STREAM, #KEYS do
  local pending = redis.pcall('XPENDING', KEYS[i], group)
  for _, consumer in ipairs(not pending.err and pending[4] or {}) do
    if consumer[1] == worker then delivered = delivered + consumer[2] end
  end
end
return { now, 1, delivered, is_mute and 1 or 0 }
