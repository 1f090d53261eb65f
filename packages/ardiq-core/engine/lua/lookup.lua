-- lookup: what is known of some jobs.
--
-- KEYS  due, running
-- ARGV  base, job prefix, ids
-- out   per job: record or nil, header .. envelope ("" unless it is in a stream), due ms ("" unless scheduled), run ("" unless running)
local out = {}
for i = 3, #ARGV do
  local id, value, due, run = ARGV[i], '', '', ''
  local record = call('GET', ARGV[2] .. id)
  local kind = record and sub(record, 1, 1)
  if kind == 'q' then
    local entry, suffix = string.match(sub(record, 10), '^(%S+) (.*)$')
    local found = call('XRANGE', ARGV[1] .. suffix, entry, entry)
    value = found[1] and sub(found[1][2][1], 1, HEADER) .. found[1][2][2] or ''
    run = call('HGET', KEYS[2], id) or ''
    if sub(run, 1, #entry + 1) ~= entry .. ' ' then run = '' end
  elseif kind == 'd' then
    due = call('ZSCORE', KEYS[1], id) or ''
  end
  out[#out + 1] = { record, value, due, run }
end
return out
