-- fire: enqueue one occurrence of a schedule, once across all workers.
--
-- KEYS  cron, due, running, lane stream
-- ARGV  base, job prefix, unique prefix, schedule name, fire time ms, id, unique digest or "-", envelope
-- out   1 fired by this call, 0 this occurrence or a later one was fired before, or an unfinished job holds the unique identity
local base, job_prefix, schedule, fire_ms, id = ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6]
local job_key = job_prefix .. id
local _, _, holder_of = presence()
local last = tonumber(call('HGET', KEYS[1], schedule) or nil)
if last and last >= tonumber(fire_ms) then return 0 end
expect('stream', KEYS[4])
need(KEYS[4], 'HSET', 'XADD', 'SET')
local unique_key = ARGV[7] ~= '-' and ARGV[3] .. ARGV[7]
local holder = unique_key and holder_of(base, KEYS[2], KEYS[3], job_prefix, unique_key, id)
call('HSET', KEYS[1], schedule, fire_ms)
if holder then return 0 end
if unique_key then call('SET', unique_key, id) end
place(base, KEYS[4], job_key, struct.pack('>HBBBI8', 0, 0, 0, 0, now) .. id, ARGV[8])
return 1
