-- lookup: read the state of some jobs.
--
-- KEYS  due, running
-- ARGV  base, job prefix, prefix of results, ids
-- out   per job: record (without the result if the job is finished) or nil, header .. envelope (""
--       unless it is in a stream), due ms ("" unless scheduled), run ("" unless running)
local due, running = KEYS[1], KEYS[2]
local base, job_prefix, result_prefix = ARGV[1], ARGV[2], ARGV[3]
local FIRST_ID = 4
local location_of, out = presence(), {}
for i = FIRST_ID, #ARGV do
  local id, value, due_ms, run = ARGV[i], '', '', ''
  local record = ask('GETRANGE', job_prefix .. id, 0, NONCE_END - 1) or ''
  local kind = sub(record, 1, 1)
  if kind == 'q' then
    record = ask('GET', job_prefix .. id)
    local entry, stream = location_of(base, record)
    local found = entry and ask('XRANGE', stream, entry, entry) or {}
    value = found[1] and sub(found[1][2][1], 1, HEADER) .. found[1][2][2] or ''
    run = entry and ask('HGET', running, id) or ''
    if run ~= '' and sub(run, 1, #entry + 1) ~= entry .. ' ' then run = '' end
  elseif kind == 'd' then
    record = ask('GET', job_prefix .. id)
    due_ms = ask('ZSCORE', due, id) or ''
  elseif kind == 'T' then
    local result = ask('GETRANGE', result_prefix .. id, 0, NONCE_END - 1)
    if result == 'R' .. sub(record, NONCE) then record = result end
  end
  out[#out + 1] = { record ~= '' and record, value, due_ms, run }
end
return out
