-- fire: enqueue one occurrence of a schedule, once across all workers.
--
-- KEYS  cron, lane stream
-- ARGV  base, job prefix, unique prefix, schedule name, fire time ms, id, unique digest or "-", envelope
-- out   1 fired by this call, 0 this occurrence or a later one was fired before, or an unfinished job holds the unique identity
local base, job_prefix, schedule, fire_ms, id = ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6]
local last = call('HGET', KEYS[1], schedule)
if last and tonumber(last) >= tonumber(fire_ms) then return 0 end
call('HSET', KEYS[1], schedule, fire_ms)
if ARGV[7] ~= '-' then
  local unique_key = ARGV[3] .. ARGV[7]
  if holder_of(job_prefix, unique_key, id) then return 0 end
  call('SET', unique_key, id)
end
place(base, KEYS[2], job_prefix .. id, struct.pack('>HBBBI8', 0, 0, 0, 0, now) .. id, ARGV[8])
return 1
