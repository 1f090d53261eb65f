-- lookup: read the state of some jobs.
--
-- KEYS  due, running, linked
-- ARGV  base, job prefix, prefix of results, names of links, ids
-- out   per job: record (without the result if the job is finished) or nil, header .. envelope (""
--       unless it is in a stream), due ms ("" unless scheduled), run ("" unless running), ids of
--       some parents that it waits for, ids of some children
local due, running, linked = KEYS[1], KEYS[2], KEYS[3]
local base, job_prefix, result_prefix, links = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local FIRST_ID, MOST_LINKS, GATE, EDGE_HEAD = 5, 100, ' ', 13
local children, parents = string.match(links, '^(%S+) (%S+)')
local has_links = ask('EXISTS', linked) == 1

-- The jobs that a job waits for, and those that wait for it.
local function links_of(id, record)
  local before, behind = {}, {}
  if not has_links then return before, behind end
  local name = id .. ':' .. hex(sub(record, NONCE, NONCE_END))
  local seen = { [GATE] = true }
  for _, parent in ipairs(ask('SRANDMEMBER', base .. parents .. name, MOST_LINKS) or {}) do
    local of = sub(parent, 13)
    if not seen[of] then before[#before + 1] = of end
    seen[of] = true
  end
  for _, edge in ipairs(ask('LRANGE', base .. children .. name, 0, MOST_LINKS - 1) or {}) do
    behind[#behind + 1] = sub(edge, EDGE_HEAD + 1)
  end
  table.sort(before)
  return before, behind
end
local location_of, out = presence(), {}
for i = FIRST_ID, #ARGV do
  local id, value, due_ms, run, before, behind = ARGV[i], '', '', '', {}, {}
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
  if kind == 'q' or kind == 'd' then before, behind = links_of(id, record) end
  out[#out + 1] = { record ~= '' and record, value, due_ms, run, before, behind }
end
return out
