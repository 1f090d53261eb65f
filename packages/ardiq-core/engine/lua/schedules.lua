-- schedules: read one schedule, or one page of all.
--
-- KEYS  schedules, cron, declared
-- ARGV  prefix of the job record of an occurrence (without the schedule's name), name of one
--       schedule or "" for all, cursor ("0" to begin), number of schedules per page
-- out   now, revision of the last change ("" if there was none), next cursor ("0" at the end), then
--       per schedule: name, record, last occurrence that became a job in ms ("" if there was none)
-- A page may repeat schedules of an earlier page. A static schedule that is no longer in the code
-- is left out, unless it is paused.
local schedules, cron, declared = unpack(KEYS)
local occurrence_prefix, one, cursor, most = unpack(ARGV)
local out = { now, ask('HGET', schedules, '') or '', '0' }

local function add(name, record)
  if name == '' or sub(record, 1, 2) == 'sa' and not is_declared(declared, name) then return end
  local ran, last = ask('HGET', cron, name .. RAN) or '', ask('HGET', cron, name)
  -- A worker of an earlier version only records the last occurrence.
  if last and last ~= ran and call('EXISTS', occurrence_prefix .. name .. ':' .. last) == 1 then ran = last end
  out[#out + 1], out[#out + 2], out[#out + 3] = name, record, ran
end

if one ~= '' then
  local record = ask('HGET', schedules, one)
  if record then add(one, record) end
  return out
end
local page = ask('HSCAN', schedules, cursor, 'COUNT', most)
if not page then return out end
out[3] = page[1]
for n = 1, #page[2], 2 do add(page[2][n], page[2][n + 1]) end
return out
