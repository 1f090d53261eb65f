-- promote: move jobs whose time has come from the due set to their lanes.
--
-- KEYS  due
-- ARGV  base, job prefix, most jobs
-- out   now, jobs moved, ms until the next job is due (-1 none)
local ids = call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  local job_key = ARGV[2] .. id
  local record = call('GET', job_key)
  if record and sub(record, 1, 1) == 'd' then
    local header = 11 + string.byte(record, 10)
    local label = sub(record, header, header + HEADER - 1) .. id
    place(ARGV[1], ARGV[1] .. sub(record, 11, header - 1), job_key, label, sub(record, header + HEADER))
  end
end
if #ids > 0 then call('ZREM', KEYS[1], unpack(ids)) end
return { now, #ids, due_in(KEYS[1]) }
