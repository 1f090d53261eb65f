-- Included in scripts that can end a job as aborted. One function creates all others, because most
-- calls abort nothing.
--
-- `aborting` holds the jobs that a worker has and that are to be aborted: the nonce of the enqueue
-- by job id. A mark stays until its job has ended, so it outlives the worker.

-- `finish` ends a job, see `endings`.
local function marks(aborting, linked, releasing, base, links, finish)
  local parents = base .. string.match(links, '^%S+ (%S+)')

  -- Whether the job in this envelope is to be aborted.
  local function is_marked(id, envelope)
    return #envelope >= NONCE_END and ask('HGET', aborting, id) == sub(envelope, NONCE, NONCE_END)
  end

  -- End a job that no worker settles. Its entry, or its member of the due set, is left to the
  -- caller. Returns the result for the waiting callers.
  local function abort(id, header, envelope, run)
    local record = finish(id, header, envelope, run, cmsgpack.pack('aborted'), true, 0)
    local name = id .. ':' .. hex(sub(envelope, NONCE, NONCE_END))
    call('HDEL', aborting, id)
    local was_waiting = call('UNLINK', parents .. name) == 1
    if not depart(linked, releasing, id, record, not was_waiting) then free_inputs(base, links, releasing, name) end
    return record
  end

  return is_marked, abort
end

