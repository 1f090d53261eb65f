-- Prelude of every script: the clock, and the two binary forms that more than one script reads or writes.
--
-- entry         one field: its name is the label, header (13 bytes) .. job id, its value the envelope. The header holds what the
--               protocol changes, the envelope what the producer wrote, which can be large and is never put together anew:
--               tries u16, deaths u8, misses u8, flags u8, enqueue time u64; all big-endian.
-- job record    kind (1 byte) .. nonce (8 bytes) .. rest:
--               q  in a stream: <entry id> <stream, without the queue's prefix>
--               d  in the due set: length of the stream's name (1 byte) .. stream .. header .. envelope
--               R  finished: result, msgpack
--               T  finished, result not stored: nothing
local HEADER, SUSPECT, APART, TOMBSTONE_MS = 13, 1, 2, 30000
local call, sub = redis.call, string.sub
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function nonce_of(envelope) return sub(envelope, 2, 9) end

-- Does `record` say that the job is in the stream as this very entry? This is the fence: a change of owner makes a new entry.
local function is_at(record, entry) return record and sub(record, 1, 1) == 'q' and sub(record, 10, 10 + #entry) == entry .. ' ' end

-- Put a job into a stream and note in its record where it is.
local function place(base, stream, job_key, label, envelope)
  local entry = call('XADD', stream, '*', label, envelope)
  call('SET', job_key, 'q' .. nonce_of(envelope) .. entry .. ' ' .. sub(stream, #base + 1))
end

-- The unfinished job that holds a unique identity, unless it is the job itself.
local function holder_of(job_prefix, unique_key, id)
  local holder = call('GET', unique_key)
  if not holder or holder == id then return nil end
  local kind = call('GETRANGE', job_prefix .. holder, 0, 0)
  if kind == 'q' or kind == 'd' then return holder end
  return nil
end

-- Tell the workers when a job became due earlier than all that they knew of.
local function announce_due(due, wake, earliest)
  local head = call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if head[2] and earliest <= tonumber(head[2]) then call('PUBLISH', wake, string.format('%.0f', earliest)) end
end

-- Milliseconds until the next job is due, -1 when none is scheduled.
local function due_in(due)
  local head = call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if not head[2] then return -1 end
  return math.max(0, tonumber(head[2]) - now)
end

