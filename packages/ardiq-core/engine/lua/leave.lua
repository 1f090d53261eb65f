-- leave: sign a worker off. If it still has deliveries, end its lease instead, so that others take them over at once.
--
-- KEYS  workers, worker info, pulse, streams
-- ARGV  group, worker
-- out   number of deliveries left behind
local left = 0
expect('zset', KEYS[1])
expect('hash', KEYS[2])
need(KEYS[1], 'ZADD', 'ZREM', 'HDEL', 'XPENDING', 'EXISTS', 'DEL')
for i = 4, #KEYS do
  local pending = redis.pcall('XPENDING', KEYS[i], ARGV[1], '-', '+', 1, ARGV[2])
  if not pending.err then left = left + #pending end
end
if left > 0 then
  call('ZADD', KEYS[1], 'XX', 0, ARGV[2])
  return left
end
for i = 4, #KEYS do redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], ARGV[1], ARGV[2]) end
call('ZREM', KEYS[1], ARGV[2])
call('HDEL', KEYS[2], ARGV[2])
if call('EXISTS', KEYS[1]) == 0 then call('DEL', KEYS[3]) end
return 0
