-- start: record that runs have begun, so that a crash counts them as tries.
--
-- KEYS  running
-- ARGV  job prefix, worker, then per run: id, entry id, start ms, tries
-- out   positions (from 0) of runs that are no longer this worker's
local refused, fields = {}, {}
for i = 3, #ARGV, 4 do
  local id, entry = ARGV[i], ARGV[i + 1]
  if is_at(call('GET', ARGV[1] .. id), entry) then
    fields[#fields + 1] = id
    fields[#fields + 1] = entry .. ' ' .. ARGV[2] .. ' ' .. ARGV[i + 2] .. ' ' .. ARGV[i + 3]
    -- Lua passes a few thousand arguments at most.
    if #fields >= 1000 then
      call('HSET', KEYS[1], unpack(fields))
      fields = {}
    end
  else
    refused[#refused + 1] = (i - 3) / 4
  end
end
if #fields > 0 then call('HSET', KEYS[1], unpack(fields)) end
return refused
