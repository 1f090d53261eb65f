-- pause: pause a schedule, or resume it.
--
-- KEYS  schedules, cron, declared
-- ARGV  wake channel, name, revision of this change, "p" to pause or "a" to resume
-- out   1 if this user cannot publish (else 0), 1 if there is such a schedule (else 0)
-- The schedule keeps its own revision. After it was resumed, no occurrence of the past is fired.
local schedules, cron, declared = unpack(KEYS)
local wake, name, revision, state = unpack(ARGV)
local _, _, is_refused, publish = tell()
expect('hash', schedules, cron)
expect('zset', declared)
need(schedules, 'HGET', 'HSET', 'ZADD')
local old = call('HGET', schedules, name) or ''
if old == '' then return { 0, 0 } end
if sub(old, STATE, STATE) == state then return { 0, 1 } end
local changed = struct.pack('>I6', now)
call('HSET', schedules, name, sub(old, 1, 1) .. state .. sub(old, REVISION, REVISION_END) .. changed .. sub(old, PLAN))
call('HSET', schedules, '', revision)
if state == 'a' then
  skip_until_now(cron, name)
  -- If it is no longer in the code, the next declaration removes it.
  if sub(old, 1, 1) == 's' then call('ZADD', declared, 'NX', now - DECLARED_MS, name) end
end
publish(wake, 'schedules')
return { is_refused() and 1 or 0, 1 }
