-- fire: enqueue one occurrence of a schedule, once across all workers.
--
-- KEYS  cron, due, running, lane stream
-- ARGV  base, job prefix, unique prefix, schedule name, fire time ms, ms until the next occurrence,
--       id, unique digest or "-", envelope
-- out   now, then 1 fired by this call; 2 the same, after the server's clock was set back; 0 not
--       fired: this occurrence or a later one was fired before, it is not due yet, its job is
--       unfinished, or an unfinished job holds the unique identity
-- If the last fired occurrence is further ahead of the current time than the next occurrence is of
-- this one, or than a minute, the clock was set back, and the script ignores the last one. A
-- smaller step is waited for: no occurrence is fired twice.
local cron, due, running, lane = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local base, job_prefix, unique_prefix, schedule = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fire_ms, gap_ms, id, unique, envelope = unpack(ARGV, 5, 9)
local TOLERANCE_MS, LEAST_MS = 60000, 1000
local job_key = job_prefix .. id
local _, is_alive, holder_of = presence()
local last = tonumber(call('HGET', cron, schedule) or nil)
local set_back = last and last > now + math.min(math.max(tonumber(gap_ms), LEAST_MS), TOLERANCE_MS)
local has_come = tonumber(fire_ms) <= now + LEAST_MS
if not has_come or last and not set_back and last >= tonumber(fire_ms) then return { now, 0 } end
-- After the clock was set back, the same occurrence may come up again.
local record = ask('GETRANGE', job_key, 0, 511) or ''
local kind = sub(record, 1, 1)
local unfinished = (kind == 'q' or kind == 'd') and is_alive(base, due, running, id, record)
expect('stream', lane)
need(lane, 'HSET', 'XADD', 'SET')
local unique_key = unique ~= '-' and unique_prefix .. unique
local holder = unique_key and holder_of(base, due, running, job_prefix, unique_key, id)
call('HSET', cron, schedule, fire_ms)
if holder or unfinished then return { now, 0 } end
if unique_key then call('SET', unique_key, id) end
add_to_stream(base, lane, job_key, struct.pack(NEW_HEADER_FORMAT, 0, 0, 0, 0, now) .. id, envelope)
return { now, set_back and 2 or 1 }
