-- list: read one page of the jobs in one state: queued, oldest first within a lane; scheduled, by
-- due time; running, in no particular order; dead, newest first.
--
-- KEYS  due, running, dead, lanes
-- ARGV  base, state (queued, scheduled, running, dead), maximum number of jobs, cursor ("" to
--       begin), prefixes of the two kinds of stream (returned, lane)
-- out   next cursor ("" at the end), then ids; for dead jobs (id, record, header .. envelope, body
--       or "" if it is in the envelope, entry id if the body has more than 64 KiB and must be read
--       separately, else "")
-- A key of the wrong type counts as empty. Entries that are not jobs are skipped.
local due, running, dead, known_lanes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local base, state, most, cursor = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local FIRST_PREFIX = 5
local out = { '' }
-- Dead letters can be large, so a page of them ends after this many bytes.
local PAGE_BYTES = 500000
local LARGE = 65536

local function behind(entry) return entry == '' and '-' or '(' .. entry end

if state == 'scheduled' then
  local from = tonumber(cursor) or 0
  local ids = ask('ZRANGE', due, from, from + most - 1) or {}
  for n, id in ipairs(ids) do out[n + 1] = id end
  if #ids == most then out[1] = string.format('%.0f', from + most) end
elseif state == 'running' then
  local page = ask('HSCAN', running, cursor == '' and '0' or cursor, 'COUNT', most)
  if page then
    for n = 1, #page[2], 2 do out[#out + 1] = page[2][n] end
    if page[1] ~= '0' then out[1] = page[1] end
  end
elseif state == 'dead' then
  local bytes, last = 0, cursor
  while #out <= most do
    -- Read them one at a time, because the next one may be large.
    local entry = (ask('XREVRANGE', dead, last == '' and '+' or '(' .. last, '-', 'COUNT', 1) or {})[1]
    if not entry then
      last = ''
      break
    end
    last = entry[1]
    local letter = {}
    for n = 1, #entry[2], 2 do letter[entry[2][n]] = entry[2][n + 1] end
    if letter.id and letter.record then
      local value, body, body_entry = letter.value or '', letter.body or '', ''
      if #body > LARGE then body, body_entry = '', last end
      out[#out + 1] = { letter.id, letter.record, value, body, body_entry }
      bytes = bytes + #letter.record + #value + #body
    end
    if bytes > PAGE_BYTES then break end
  end
  out[1] = last
else
  -- Lanes are sorted by name, so that the cursor can hold a position: kind of stream, entry, lane.
  local lanes = ask('SMEMBERS', known_lanes) or {}
  table.sort(lanes)
  local kind, entry, at = string.match(cursor, '^(%d) (%S*) (.*)$')
  local left = most
  for _, lane in ipairs(lanes) do
    for i = FIRST_PREFIX, #ARGV do
      local here = lane == at and tostring(i) == kind
      if not at or here then
        local from = behind(here and entry or '')
        for _, found in ipairs(ask('XRANGE', base .. ARGV[i] .. lane, from, '+', 'COUNT', left) or {}) do
          local id = sub(found[2][1], HEADER + 1)
          -- The streams also contain running jobs.
          if id ~= '' and (ask('HEXISTS', running, id) or 0) == 0 then out[#out + 1] = id end
          out[1] = i .. ' ' .. found[1] .. ' ' .. lane
          left = left - 1
        end
        if left <= 0 then return out end
        at = nil
      end
    end
  end
  out[1] = ''
end
return out
