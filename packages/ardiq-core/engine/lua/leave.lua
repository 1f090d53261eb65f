-- leave: sign a worker off. If it still has deliveries, end its lease instead, so that others take
-- them over at once.
--
-- KEYS  workers, worker info, pulse, streams
-- ARGV  group, worker
-- out   number of deliveries left behind
local workers, info, pulse = KEYS[1], KEYS[2], KEYS[3]
local FIRST_STREAM = 4
local group, worker = ARGV[1], ARGV[2]
local left = 0
expect('zset', workers)
expect('hash', info)
need(workers, 'ZADD', 'ZREM', 'HDEL', 'XPENDING', 'EXISTS', 'DEL')
for i = FIRST_STREAM, #KEYS do
  local pending = redis.pcall('XPENDING', KEYS[i], group, '-', '+', 1, worker)
  if not pending.err then left = left + #pending end
end
if left > 0 then
  call('ZADD', workers, 'XX', 0, worker)
  return left
end
for i = FIRST_STREAM, #KEYS do redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], group, worker) end
call('ZREM', workers, worker)
call('HDEL', info, worker)
if call('EXISTS', workers) == 0 then call('DEL', pulse) end
return 0
