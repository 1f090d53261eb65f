-- In front of the scripts that move jobs: where a job is.

-- Does `record` say that the job is in this stream (named without the queue's prefix) as this very entry? This is the fence: a
-- change of owner makes a new entry. Two streams may well have entries with the same id.
local function is_at(record, entry, stream)
  return record and sub(record, 1, 1) == 'q' and sub(record, 10) == entry .. ' ' .. stream
end

-- Put a job into a stream and note in its record where it is.
local function place(base, stream, job_key, label, envelope)
  local entry = call('XADD', stream, '*', label, envelope)
  call('SET', job_key, 'q' .. sub(envelope, 2, 9) .. entry .. ' ' .. sub(stream, #base + 1))
end

