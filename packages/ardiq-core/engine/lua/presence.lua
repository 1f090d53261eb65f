-- In front of the scripts that must know whether an unfinished job still exists: somebody may have deleted a stream, or trimmed it.
-- All in one function, since most calls do not need it.

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

