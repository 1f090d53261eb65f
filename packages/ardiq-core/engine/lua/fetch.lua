-- fetch: deliver jobs to a worker: the highest lane first, and in each lane returned work before
-- new work.
--
-- KEYS  workers, due, streams in the order in which they are served
-- ARGV  group, worker, maximum number of jobs, ">" for new work; or, to read back this worker's
--       deliveries after a lost reply, the entry id after which to continue, and the position (from 0)
--       of its stream
-- out   now, lease (1 held, 0 lost or unknown: nothing delivered), ms until the next job is due (-1
--       none; not computed when the batch is full), number of unfinished jobs (only when nothing
--       was found, else -1), then per stream with work: its position from 0, and one list of entry
--       id, label, envelope, entry id, …
--       The label is nil for an entry that was deleted after its delivery.
local workers, due = KEYS[1], KEYS[2]
local FIRST_STREAM = 3
local group, worker, left, from = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local first = FIRST_STREAM + (ARGV[5] or 0)
local lease = call('ZSCORE', workers, worker)
if not lease or tonumber(lease) < 0 then return { now, 0, -1, -1 } end
local out, fault = { now, 1, -1, -1 }, nil

-- A stream that cannot be read does not block the others.
local function read(stream)
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, worker, 'COUNT', left, 'STREAMS', stream, from)
  if reply and reply.err and string.find(reply.err, 'NOGROUP', 1, true) then
    reply = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    if reply.ok then
      reply = redis.pcall('XREADGROUP', 'GROUP', group, worker, 'COUNT', left, 'STREAMS', stream, from)
    end
  end
  if reply and reply.err then
    fault = reply
    return nil
  end
  return reply and reply[1] and reply[1][2]
end

-- A flat list, because every table in a reply costs as much as two strings.
local function flat(stream, entries)
  local list = {}
  for n = 1, #entries do
    local entry, fields = entries[n][1], entries[n][2]
    local last = #list
    if fields then
      list[last + 1], list[last + 2], list[last + 3] = entry, fields[1], fields[2]
    else
      -- The entry is gone, so there is nothing to run: only acknowledge it.
      redis.pcall('XACK', stream, group, entry)
      list[last + 1], list[last + 2], list[last + 3] = entry, false, false
    end
  end
  return list
end

for i = first, #KEYS do
  local entries = read(KEYS[i])
  if entries and #entries > 0 then
    left = left - #entries
    out[#out + 1] = i - FIRST_STREAM
    out[#out + 1] = flat(KEYS[i], entries)
    if left <= 0 then break end
  end
  if from ~= '>' then from = '0' end
end
if #out == 4 and fault then error(fault) end
if left > 0 then out[3] = due_in(due) end
if #out == 4 then
  local unfinished = 0
  local function add(...)
    local count = redis.pcall(...)
    -- A key that cannot be counted may hold jobs.
    unfinished = unfinished + (type(count) == 'number' and count or 1)
  end
  add('ZCARD', due)
  for i = FIRST_STREAM, #KEYS do add('XLEN', KEYS[i]) end
  out[4] = unfinished
end
return out
