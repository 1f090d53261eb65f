-- Prelude of every script: the clock, the binary forms that more than one script reads or writes, and what keeps a script whole.
--
-- entry         one field: its name is the label, header (13 bytes) .. job id, its value the envelope. The header holds what the
--               protocol changes, the envelope what the producer wrote, which can be large and is never put together anew:
--               tries (low half, u16), deaths u8, misses u8, flags u8, tries (high half, u16), enqueue time u48; all big-endian.
--               Without tries the last two are written as one u64.
-- job record    kind (1 byte) .. nonce (8 bytes) .. rest:
--               q  in a stream: <entry id> <stream, without the queue's prefix>
--               d  in the due set: length of the stream's name (1 byte) .. stream .. header .. envelope
--               R  finished: result, msgpack
--               T  finished, result not stored, or beside the record because it ends before it: nothing
--
-- A script happens as a whole or not at all, and Redis undoes nothing. So whatever can fail is found out before the first write:
-- rights with `need`, types with `expect`. What may fail all the same, as publishing, is called with `pcall`.
local HEADER, SUSPECT, APART, ALONE = 13, 1, 2, 4
-- How long at least a tombstone, the result of a lost job and what was set aside are kept.
local TOMBSTONE_MS, LOST_MS, ASIDE_MS = 30000, 300000, 604800000
local call, may, sub = redis.call, redis.acl_check_cmd, string.sub
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Was there a message that this user may not send?
local unheard = false

-- Refuse the call when the user may not run these commands on `key`.
local function need(key, ...)
  for n = 1, select('#', ...) do
    local command = select(n, ...)
    if not may(command, key) then
      error({ err = "NOPERM this user has no permissions to run the '" .. string.lower(command) .. "' command on " .. key })
    end
  end
end

-- Refuse the call when one of these keys holds something else.
local function expect(kind, ...)
  for _, key in ipairs({ ... }) do
    local found = call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
      error({ err = 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ' where a ' .. kind .. ' belongs' })
    end
  end
end

-- What a read brings. Nil when the key holds something else than it should: for the script, there is nothing.
local function ask(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  for _, harmless in ipairs({ 'WRONGTYPE', 'NOGROUP', 'Invalid stream ID' }) do
    if string.find(answer.err, harmless, 1, true) then return nil end
  end
  error(answer)
end

local function publish(channel, message)
  local answer = redis.pcall('PUBLISH', channel, message)
  unheard = unheard or type(answer) == 'table'
end

local function nonce_of(envelope) return sub(envelope, 2, 9) end

-- Does `record` say that the job is in this stream (named without the queue's prefix) as this very entry? This is the fence: a
-- change of owner makes a new entry. Two streams may well have entries with the same id.
local function is_at(record, entry, stream)
  return record and sub(record, 1, 1) == 'q' and sub(record, 10) == entry .. ' ' .. stream
end

-- Put a job into a stream and note in its record where it is.
local function place(base, stream, job_key, label, envelope)
  local entry = call('XADD', stream, '*', label, envelope)
  call('SET', job_key, 'q' .. nonce_of(envelope) .. entry .. ' ' .. sub(stream, #base + 1))
end

-- The job's entry was deleted from outside: nobody can run it any more. Its callers are told, and its id is free again.
local function lose(job_key, id, record)
  local nonce = sub(record .. string.rep('\0', 8), 2, 9)
  local text = 'the job was lost: its entry was deleted from Redis before it had run'
  local result = cmsgpack.pack(text, 0, 0, 0, now, id, '', '', false, nil, nil)
  local lost = 'R' .. nonce .. string.char(0x9b) .. result
  call('SET', job_key, lost, 'PX', LOST_MS)
  return lost
end

-- Send a result record to the callers that wait for it. Those that no message reaches find it by looking.
local function notify(waiters, id, record)
  local waiting = call('HGET', waiters, id)
  if not waiting then return end
  local message = struct.pack('>H', #id) .. id .. record
  for channel in string.gmatch(waiting, '(%S+) %d+\n') do publish(channel, message) end
  call('HDEL', waiters, id)
end

-- Tell the workers when a job became due earlier than all that they knew of.
local function announce_due(due, wake, earliest)
  local head = redis.pcall('ZRANGE', due, 0, 0, 'WITHSCORES')
  if head[2] and earliest <= tonumber(head[2]) then publish(wake, string.format('%.0f', earliest)) end
end

-- Milliseconds until the next job is due, -1 when none is scheduled.
local function due_in(due)
  local head = redis.pcall('ZRANGE', due, 0, 0, 'WITHSCORES')
  if not head[2] then return -1 end
  return math.max(0, tonumber(head[2]) - now)
end

-- For scripts that must know whether an unfinished job still exists: somebody may have deleted a stream, or trimmed it. In a
-- function of its own, so that the others do not pay for it.
local function presence()
  -- Entry and stream that a record `q` names; nil when it names none.
  local function place_of(base, record)
    local entry, stream = string.match(record, '^(%d+%-%d+) (.+)$', 10)
    if entry then return entry, base .. stream end
  end

  -- Is an unfinished job where its record says, or with a worker? A user that may not look takes it to be.
  local function is_alive(base, due, running, id, record)
    local function look(...)
      local permitted, answer = pcall(ask, ...)
      if permitted then return answer end
      return { 'unknown' }
    end
    if sub(record, 1, 1) == 'd' then return look('ZSCORE', due, id) and true or false end
    local entry, stream = place_of(base, record)
    if not entry then return false end
    local found = look('XRANGE', stream, entry, entry)
    if found and found[1] then return true end
    -- Deleted under a worker's hands: its outcome will count. The queue's name, from the key's prefix, is that of the group.
    local pending = look('XPENDING', stream, sub(base, 8, -3), entry, entry, 1)
    if pending and pending[1] then return true end
    local run = look('HGET', running, id)
    return type(run) == 'table' or (run and sub(run, 1, #entry + 1) == entry .. ' ') or false
  end

  -- The unfinished job that holds a unique identity, unless it is the job itself.
  local function holder_of(base, due, running, job_prefix, unique_key, id)
    local holder = ask('GET', unique_key)
    if not holder or holder == id then return nil end
    local record = ask('GETRANGE', job_prefix .. holder, 0, 511)
    local kind = record and sub(record, 1, 1)
    if (kind == 'q' or kind == 'd') and is_alive(base, due, running, holder, record) then return holder end
    return nil
  end

  return place_of, is_alive, holder_of
end

