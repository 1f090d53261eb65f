-- promote: move due jobs from the due set to their lanes.
--
-- KEYS  due, linked, releasing
-- ARGV  base, job prefix, maximum number of jobs, prefix of the keys set aside
-- out   now, jobs moved, ms until the next job is due (-1 none)
-- If the key of a stream has the wrong type, it is set aside.
local due, linked, releasing = unpack(KEYS)
local base, job_prefix, most, aside = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ids = call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most)
if #ids == 0 then return { now, 0, due_in(due) } end
need(due, 'ZREM', 'ZADD', 'ZRANGE', 'TYPE', 'GET', 'XADD', 'SET', 'HGET', 'HSET', 'HDEL')

-- Read all records before the first write, because a stream of the wrong type needs a permission
-- more.
local records, streams = {}, {}
for n, id in ipairs(ids) do
  local record = ask('GET', job_prefix .. id)
  if record and sub(record, 1, 1) == 'd' then
    local header = REST + 1 + (string.byte(record, REST) or 0)
    local is_whole = #record >= header + HEADER + NONCE_END - 1
    records[n] = { text = record, header = header, stream = is_whole and base .. sub(record, REST + 1, header - 1) }
    -- A worker of an earlier version may have repaired the due time of a job that waits for others.
    local flags = is_whole and string.byte(record, header + 4) or 0
    records[n].waits = math.floor(flags / WAITS) % 2 == 1
    if is_whole and not records[n].waits then streams[records[n].stream] = true end
  end
end
local wrong = {}
for stream in pairs(streams) do
  local found = call('TYPE', stream).ok
  if found ~= 'stream' and found ~= 'none' then
    need(due, 'RENAME')
    wrong[#wrong + 1] = stream
  end
end

for _, stream in ipairs(wrong) do
  local name = aside .. sub(stream, #base + 1)
  call('RENAME', stream, name)
  redis.pcall('PEXPIRE', name, ASIDE_MS)
end
call('ZREM', due, unpack(ids))
for n, id in ipairs(ids) do
  local record = records[n]
  if record and record.waits then
    call('ZADD', due, NOT_YET, id)
  elseif record and record.stream then
    local envelope = record.header + HEADER
    local label = sub(record.text, record.header, envelope - 1) .. id
    add_to_stream(base, record.stream, job_prefix .. id, label, sub(record.text, envelope))
  elseif record then
    -- The record is truncated, so there is nothing to run.
    lose(job_prefix .. id, id, record.text, linked, releasing)
  end
end
return { now, #ids, due_in(due) }
