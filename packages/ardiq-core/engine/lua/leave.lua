-- leave: sign a worker off. If it still has deliveries, end its lease instead, so that others take
-- them over at once. The runs of a worker that has failed then count like those of one that died.
--
-- KEYS  workers, worker info, pulse, waiters, streams
-- ARGV  group, worker, "1" if the worker has failed (else "0")
-- out   number of streams in which the worker left deliveries behind
local workers, info, pulse, waiters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local FIRST_STREAM = 5
local group, worker, has_failed = ARGV[1], ARGV[2], ARGV[3] == '1'
local left = 0
expect('zset', workers)
expect('hash', info)
need(workers, 'ZADD', 'ZREM', 'HDEL', 'XPENDING', 'EXISTS', 'DEL')
for i = FIRST_STREAM, #KEYS do
  local pending = redis.pcall('XPENDING', KEYS[i], group, '-', '+', 1, worker)
  if not pending.err then left = left + #pending end
end
if left > 0 then
  call('ZADD', workers, has_failed and -1 or 0, worker)
  return left
end
for i = FIRST_STREAM, #KEYS do redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], group, worker) end
call('ZREM', workers, worker)
call('HDEL', info, worker)
if call('EXISTS', workers) == 0 then
  call('DEL', pulse)
  redis.pcall('HDEL', waiters, '')
end
return 0
