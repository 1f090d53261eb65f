-- promote: move due jobs from the due set to their lanes.
--
-- KEYS  due
-- ARGV  base, job prefix, maximum number of jobs, prefix of the keys set aside
-- out   now, jobs moved, ms until the next job is due (-1 none)
-- If the key of a stream has the wrong type, it is set aside.
local due = KEYS[1]
local base, job_prefix, most, aside = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ids = call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most)
if #ids == 0 then return { now, 0, due_in(due) } end
need(due, 'ZREM', 'ZRANGE', 'TYPE', 'GET', 'XADD', 'SET', 'RENAME')

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
    local header = REST + 1 + (string.byte(record, REST) or 0)
    local envelope = header + HEADER
    if #record >= envelope + NONCE_END - 1 then
      local stream = base .. sub(record, REST + 1, header - 1)
      make_ready(stream)
      add_to_stream(base, stream, job_key, sub(record, header, envelope - 1) .. id, sub(record, envelope))
    else
      -- The record is truncated, so there is nothing to run.
      lose(job_key, id, record)
    end
  end
end
call('ZREM', due, unpack(ids))
return { now, #ids, due_in(due) }
