-- fetch: deliver jobs to a worker, the highest lane first, work that was handed back before new work.
--
-- KEYS  workers, due, streams in the order in which they are served
-- ARGV  group, worker, most jobs, ">" for new work or "0" for what this worker was sent already (after a lost reply)
-- out   now, lease (1 held, 0 lost: nothing delivered), ms until the next job is due (-1 none; not looked up when the
--       batch is full), unfinished jobs in all (only when nothing was found, else -1),
--       then per stream with work: its position from 0, and one list of entry id, label, envelope, entry id, …
local group, worker, left, from = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local lease = call('ZSCORE', KEYS[1], worker)
if not lease or tonumber(lease) < 0 then return { now, 0, -1, -1 } end
local out = { now, 1, -1, -1 }

local function read(stream)
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, worker, 'COUNT', left, 'STREAMS', stream, from)
  if reply and reply.err and string.find(reply.err, 'NOGROUP', 1, true) then
    call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    reply = call('XREADGROUP', 'GROUP', group, worker, 'COUNT', left, 'STREAMS', stream, from)
  elseif reply and reply.err then
    error(reply)
  end
  return reply and reply[1] and reply[1][2]
end

-- Flat, since every table in a reply costs as much as two strings.
local function flat(stream, entries)
  local list = {}
  for n = 1, #entries do
    local entry, fields = entries[n][1], entries[n][2]
    if fields then
      local last = #list
      list[last + 1], list[last + 2], list[last + 3] = entry, fields[1], fields[2]
    else
      -- It was deleted while pending: there is nothing left to run, so it is only acknowledged.
      call('XACK', stream, group, entry)
    end
  end
  return list
end

for i = 3, #KEYS do
  local entries = read(KEYS[i])
  if entries and #entries > 0 then
    if from == '>' then left = left - #entries end
    out[#out + 1] = i - 3
    out[#out + 1] = flat(KEYS[i], entries)
    if left <= 0 then break end
  end
end
if left > 0 then out[3] = due_in(KEYS[2]) end
if #out == 4 then
  local unfinished = call('ZCARD', KEYS[2])
  for i = 3, #KEYS do unfinished = unfinished + call('XLEN', KEYS[i]) end
  out[4] = unfinished
end
return out
