-- start: record that runs have started, so that a crash counts as a try.
--
-- KEYS  running, workers
-- ARGV  job prefix, worker, then per run: id, entry id, stream without the queue's prefix, start
--       ms, tries and mode ("" one of many, "a" the only job with a death in its process, "c"
--       cleared of suspicion)
-- out   positions (from 0) of runs that this worker no longer owns
local running, workers = KEYS[1], KEYS[2]
local job_prefix, worker = ARGV[1], ARGV[2]
local FIRST_RUN = 3
local refused, fields = {}, {}
local lease = ask('ZSCORE', workers, worker)
-- A lease that was deleted by hand decides nothing: after a takeover, the job's record names
-- another entry.
local held = not lease or tonumber(lease) >= 0
for i = FIRST_RUN, #ARGV, 5 do
  local id, entry, stream, started, tries = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local record = held and ask('GET', job_prefix .. id)
  -- A job whose record was deleted runs anyway.
  if held and (lease and record == false or is_at(record, entry, stream)) then
    fields[#fields + 1] = id
    fields[#fields + 1] = entry .. ' ' .. worker .. ' ' .. started .. ' ' .. tries
  else
    refused[#refused + 1] = (i - FIRST_RUN) / 5
  end
end
if #fields > 0 then call('HSET', running, unpack(fields)) end
return refused
