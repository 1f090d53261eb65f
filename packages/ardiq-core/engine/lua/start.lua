-- start: record that runs have started, so that a crash counts as a try.
--
-- KEYS  running, workers
-- ARGV  job prefix, worker, then per run: id, entry id, stream without the queue's prefix, start ms, tries and mode (""
--       one of many, "a" the only suspect of its process, "c" cleared of suspicion)
-- out   positions (from 0) of runs that this worker no longer owns
local refused, fields = {}, {}
local lease = ask('ZSCORE', KEYS[2], ARGV[2])
local held = lease and tonumber(lease) >= 0
for i = 3, #ARGV, 5 do
  local id, entry = ARGV[i], ARGV[i + 1]
  local record = held and ask('GET', ARGV[1] .. id)
  -- A job whose record was deleted runs anyway.
  if held and (record == false or is_at(record, entry, ARGV[i + 2])) then
    fields[#fields + 1] = id
    fields[#fields + 1] = entry .. ' ' .. ARGV[2] .. ' ' .. ARGV[i + 3] .. ' ' .. ARGV[i + 4]
  else
    refused[#refused + 1] = (i - 3) / 5
  end
end
if #fields > 0 then call('HSET', KEYS[1], unpack(fields)) end
return refused
