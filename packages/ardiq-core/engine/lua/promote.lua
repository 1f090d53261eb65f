-- promote: move due jobs from the due set to their lanes.
--
-- KEYS  due
-- ARGV  base, job prefix, most jobs, prefix of the keys set aside
-- out   now, jobs moved, ms until the next job is due (-1 none)
-- If the key of a stream has the wrong type, it is set aside.
local base, job_prefix, aside = ARGV[1], ARGV[2], ARGV[4]
local ids = call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])
if #ids == 0 then return { now, 0, due_in(KEYS[1]) } end
need(KEYS[1], 'ZREM', 'ZRANGE', 'TYPE', 'GET', 'XADD', 'SET', 'RENAME')

local ready = {}
local function make_ready(stream)
  if ready[stream] then return end
  local found = call('TYPE', stream).ok
  if found ~= 'stream' and found ~= 'none' then
    local name = aside .. sub(stream, #base + 1)
    call('RENAME', stream, name)
    redis.pcall('PEXPIRE', name, ASIDE_MS)
  end
  ready[stream] = true
end

for _, id in ipairs(ids) do
  local job_key = job_prefix .. id
  local record = ask('GET', job_key)
  if record and sub(record, 1, 1) == 'd' then
    local header = 11 + (string.byte(record, 10) or 0)
    local envelope = header + HEADER
    if #record >= envelope + 8 then
      local stream = base .. sub(record, 11, header - 1)
      make_ready(stream)
      add_to_stream(base, stream, job_key, sub(record, header, envelope - 1) .. id, sub(record, envelope))
    else
      -- The record is truncated, so there is nothing to run.
      lose(job_key, id, record)
    end
  end
end
call('ZREM', KEYS[1], unpack(ids))
return { now, #ids, due_in(KEYS[1]) }
