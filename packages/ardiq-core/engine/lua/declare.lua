-- declare: publish static schedules, so that they can be listed and paused, and forget those that
-- are no longer in the code.
--
-- KEYS  schedules, declared
-- ARGV  revision of this change, maximum number of schedules to forget, then pairs (name, plan)
-- out   names of dynamic schedules that were replaced by static ones
-- A paused schedule is never forgotten.
local schedules, declared = unpack(KEYS)
local revision, most = ARGV[1], ARGV[2]
local FIRST_NAME = 3
expect('hash', schedules)
expect('zset', declared)
need(schedules, 'HGET', 'HSET', 'HDEL', 'ZADD', 'ZREM', 'ZRANGEBYSCORE')
local replaced = {}
for n = FIRST_NAME, #ARGV, 2 do
  local name, plan = ARGV[n], ARGV[n + 1]
  local old = call('HGET', schedules, name) or ''
  local origin, state = sub(old, 1, 1), 'a'
  if origin == 's' then state = sub(old, STATE, STATE) end
  if origin == 'd' then replaced[#replaced + 1] = name end
  if origin ~= 's' or sub(old, PLAN) ~= plan then
    call('HSET', schedules, name, 's' .. state .. revision .. struct.pack('>I6', now) .. plan)
  end
  call('ZADD', declared, now, name)
end
for _, name in ipairs(call('ZRANGEBYSCORE', declared, '-inf', now - DECLARED_MS, 'LIMIT', 0, most)) do
  if sub(call('HGET', schedules, name) or '', 1, 2) == 'sa' then call('HDEL', schedules, name) end
  call('ZREM', declared, name)
end
if #replaced > 0 then call('HSET', schedules, '', revision) end
return replaced
