-- renew: sign a worker on, or extend its lease.
--
-- KEYS  workers, worker info, pulse, streams
-- ARGV  group, worker, lease in ms, info (msgpack, for people), "1" to sign on or "0" to extend,
--       time at which this call was expected in ms (see leases.lua)
-- out   now, 1 held or 0 lost (never signed on, or declared dead: another worker has taken over its
--       work, or will), number of the worker's pending deliveries
local workers, info, pulse = KEYS[1], KEYS[2], KEYS[3]
local FIRST_STREAM = 4
local group, worker, lease_ms, description = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local signs_on, expected = ARGV[5] == '1', ARGV[6]
expect('zset', workers)
expect('hash', info)
need(workers, 'ZADD', 'ZRANGEBYSCORE', 'ZSCORE', 'HSET', 'XPENDING', 'GET', 'SET')
keep_time(pulse, workers, expected)
if not signs_on then
  local lease = call('ZSCORE', workers, worker)
  if not lease or tonumber(lease) < 0 then return { now, 0, 0 } end
end
call('ZADD', workers, now + lease_ms, worker)
call('HSET', info, worker, description)
local delivered = 0
for i = FIRST_STREAM, #KEYS do
  local pending = redis.pcall('XPENDING', KEYS[i], group)
  for _, consumer in ipairs(not pending.err and pending[4] or {}) do
    if consumer[1] == worker then delivered = delivered + consumer[2] end
  end
end
return { now, 1, delivered }
