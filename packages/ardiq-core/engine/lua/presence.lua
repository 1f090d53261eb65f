-- Included in scripts that must know whether an unfinished job still exists: its stream may have
-- been deleted or trimmed. One function creates all others, because most calls do not need them.

-- The due time of a job that is missing from the due set: now, unless it waits for others.
local function due_again(record)
  local flags = string.byte(record, REST + 1 + (string.byte(record, REST) or 0) + 4) or 0
  return math.floor(flags / WAITS) % 2 == 1 and NOT_YET or now
end

local function presence()
  -- The entry and the stream that a record `q` names, or nil.
  local function location_of(base, record)
    local entry, stream = string.match(record, '^(%d+%-%d+) (.+)$', REST)
    if entry then return entry, base .. stream end
  end

  -- Whether an unfinished job is where its record says, or held by a worker. True if the user may
  -- not check.
  local function is_alive(base, due, running, id, record)
    local function look(...)
      local permitted, answer = pcall(ask, ...)
      if permitted then return answer end
      return { 'unknown' }
    end
    if sub(record, 1, 1) == 'd' then return look('ZSCORE', due, id) and true or false end
    local entry, stream = location_of(base, record)
    if not entry then return false end
    local found = look('XRANGE', stream, entry, entry)
    if found and found[1] then return true end
    -- If the entry was deleted while a worker held the job, the worker's outcome still counts. The
    -- group has the name of the queue, which is part of the key prefix.
    local pending = look('XPENDING', stream, sub(base, 8, -3), entry, entry, 1)
    if pending and pending[1] then return true end
    local run = look('HGET', running, id)
    return type(run) == 'table' or (run and sub(run, 1, #entry + 1) == entry .. ' ') or false
  end

  -- The id of another unfinished job that holds a unique identity, or nil.
  local function holder_of(base, due, running, job_prefix, unique_key, id)
    local holder = ask('GET', unique_key)
    if not holder or holder == id then return nil end
    local record = ask('GETRANGE', job_prefix .. holder, 0, 511)
    local kind = record and sub(record, 1, 1)
    if (kind == 'q' or kind == 'd') and is_alive(base, due, running, holder, record) then return holder end
    return nil
  end

  return location_of, is_alive, holder_of
end

