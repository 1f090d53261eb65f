-- unschedule: remove a dynamic schedule, or what is left of a static one.
--
-- KEYS  schedules, cron, declared
-- ARGV  wake channel, name, revision of this change
-- out   1 if this user cannot publish (else 0), then "removed"; "unknown"; "static", the schedule
--       is in the code of a worker
local schedules, cron, declared = unpack(KEYS)
local wake, name, revision = unpack(ARGV)
local _, _, is_refused, publish = tell()
local function answer(what) return { is_refused() and 1 or 0, what } end
expect('hash', schedules, cron)
expect('zset', declared)
need(schedules, 'HGET', 'HSET', 'HDEL', 'HLEN', 'HEXISTS', 'DEL', 'ZREM')
local old = call('HGET', schedules, name) or ''
if old == '' then return answer('unknown') end
if sub(old, 1, 1) == 's' and is_declared(declared, name) then return answer('static') end
call('HDEL', schedules, name)
-- Without schedules, there is no revision either.
local is_last = call('HLEN', schedules) == call('HEXISTS', schedules, '')
if is_last then call('DEL', schedules) else call('HSET', schedules, '', revision) end
call('HDEL', cron, name, name .. RAN)
call('ZREM', declared, name)
publish(wake, 'schedules')
return answer('removed')
