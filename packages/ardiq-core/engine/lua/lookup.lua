-- lookup: read the state of some jobs.
--
-- KEYS  due, running
-- ARGV  base, job prefix, prefix of results, ids
-- out   per job: record (without the result if the job is finished) or nil, header .. envelope ("" unless it is in a
--       stream), due ms ("" unless scheduled), run ("" unless running)
local location_of, out = presence(), {}
for i = 4, #ARGV do
  local id, value, due, run = ARGV[i], '', '', ''
  local record = ask('GETRANGE', ARGV[2] .. id, 0, 8) or ''
  local kind = sub(record, 1, 1)
  if kind == 'q' then
    record = ask('GET', ARGV[2] .. id)
    local entry, stream = location_of(ARGV[1], record)
    local found = entry and ask('XRANGE', stream, entry, entry) or {}
    value = found[1] and sub(found[1][2][1], 1, HEADER) .. found[1][2][2] or ''
    run = entry and ask('HGET', KEYS[2], id) or ''
    if run ~= '' and sub(run, 1, #entry + 1) ~= entry .. ' ' then run = '' end
  elseif kind == 'd' then
    record = ask('GET', ARGV[2] .. id)
    due = ask('ZSCORE', KEYS[1], id) or ''
  elseif kind == 'T' then
    local result = ask('GETRANGE', ARGV[3] .. id, 0, 8)
    if result == 'R' .. sub(record, 2) then record = result end
  end
  out[#out + 1] = { record ~= '' and record, value, due, run }
end
return out
