-- renew: sign a worker on, or extend its lease.
--
-- KEYS  workers, worker info, pulse, streams
-- ARGV  group, worker, lease in ms, info (msgpack, for people), "1" to sign on or "0" to extend,
--       time at which this call was expected in ms (see leases.lua)
-- out   now, 1 held or 0 lost (never signed on, or declared dead: another worker has taken over its work, or will),
--       number of the worker's pending deliveries
local group, worker = ARGV[1], ARGV[2]
expect('zset', KEYS[1])
expect('hash', KEYS[2])
need(KEYS[1], 'ZADD', 'ZRANGEBYSCORE', 'ZSCORE', 'HSET', 'XPENDING', 'GET', 'SET')
keep_time(KEYS[3], KEYS[1], ARGV[6])
if ARGV[5] == '0' then
  local lease = call('ZSCORE', KEYS[1], worker)
  if not lease or tonumber(lease) < 0 then return { now, 0, 0 } end
end
call('ZADD', KEYS[1], now + ARGV[3], worker)
call('HSET', KEYS[2], worker, ARGV[4])
local delivered = 0
for i = 4, #KEYS do
  local pending = redis.pcall('XPENDING', KEYS[i], group)
  for _, consumer in ipairs(not pending.err and pending[4] or {}) do
    if consumer[1] == worker then delivered = delivered + consumer[2] end
  end
end
return { now, 1, delivered }
