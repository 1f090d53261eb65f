-- Included in scripts that check or change where a job is.

-- Whether `record` points to this very entry of this stream (named without the queue's prefix).
-- This is the fence: every change of owner creates a new entry. The stream matters, because two
-- streams can have entries with the same id.
local function is_at(record, entry, stream)
  return record and sub(record, 1, 1) == 'q' and sub(record, REST) == entry .. ' ' .. stream
end

-- Whether a readable record says that the job has ended, or is somewhere else. A job whose record
-- is missing or damaged is where its entry is: the entry has all that is needed to run it.
local function is_elsewhere(record, entry, stream)
  if not record or #record < NONCE_END then return false end
  local kind = sub(record, 1, 1)
  if kind == 'q' then return string.find(record, '^%d+%-%d+ .', REST) and not is_at(record, entry, stream) end
  return kind == 'd' or kind == 'R' or kind == 'T'
end

-- Add a job to a stream, and point its record at the new entry.
local function add_to_stream(base, stream, job_key, label, envelope)
  local entry = call('XADD', stream, '*', label, envelope)
  call('SET', job_key, 'q' .. sub(envelope, NONCE, NONCE_END) .. entry .. ' ' .. sub(stream, #base + 1))
end

