-- schedule: create a dynamic schedule, or replace the one of this name.
--
-- KEYS  schedules, cron, declared, lanes
-- ARGV  wake channel, name, revision, lane, plan
-- out   1 if this user cannot publish (else 0), then "saved"; "kept", the schedule exists with this
--       plan; "static", the name belongs to a schedule of the code
-- A schedule that is replaced stays paused if it was. Occurrences up to now are not fired.
local schedules, cron, declared, known_lanes = unpack(KEYS)
local wake, name, revision, lane, plan = unpack(ARGV)
local _, _, is_refused, publish = tell()
local function answer(what) return { is_refused() and 1 or 0, what } end
expect('hash', schedules, cron)
expect('set', known_lanes)
need(schedules, 'HGET', 'HSET', 'SADD')
local old = call('HGET', schedules, name) or ''
local is_dynamic = sub(old, 1, 1) == 'd'
-- A paused one is kept, whether a worker declares it or not.
if sub(old, 1, 2) == 'sp' or sub(old, 1, 1) == 's' and is_declared(declared, name) then return answer('static') end
-- An earlier try of this call has saved it.
if is_dynamic and sub(old, REVISION, REVISION_END) == revision then return answer('saved') end
if is_dynamic and sub(old, PLAN) == plan then return answer('kept') end
local state = is_dynamic and sub(old, STATE, STATE) or 'a'
call('HSET', schedules, name, 'd' .. state .. revision .. struct.pack('>I6', now) .. plan, '', revision)
skip_until_now(cron, name)
call('SADD', known_lanes, lane)
publish(wake, 'schedules')
return answer('saved')
