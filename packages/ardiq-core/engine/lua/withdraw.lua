-- Included in scripts that end unfinished jobs that no worker has.

-- A function that ends a job as aborted, unless a worker has it. It returns "aborted" and the
-- result; "lost" and the result, if there was nothing to run; "held", its entry and its stream, if
-- a worker has it.
local function withdrawal(base, group, due, running, job_prefix, linked, releasing, abort)
  local location_of = presence()

  -- Delete an entry that was not delivered. It counts as read, or the group's lag would be too high
  -- from then on, and `settle` could not rely on it.
  local function delete_undelivered(stream, entry)
    call('XDEL', stream, entry)
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    for _, one in ipairs(groups.err and {} or groups) do
      local last, entries_read = one[8], one[10]
      if one[2] == group and entries_read then
        redis.pcall('XGROUP', 'SETID', stream, group, last, 'ENTRIESREAD', entries_read + 1)
      end
    end
  end

  return function(id, record)
    local job_key = job_prefix .. id
    if sub(record, 1, 1) == 'd' then
      local header = REST + 1 + (string.byte(record, REST) or 0)
      local envelope = sub(record, header + HEADER)
      call('ZREM', due, id)
      -- If the record is truncated, there is nothing to run.
      if #envelope < NONCE_END then return 'lost', lose(job_key, id, record, linked, releasing) end
      return 'aborted', abort(id, sub(record, header, header + HEADER - 1), envelope)
    end
    local entry, stream = location_of(base, record)
    local found = entry and ask('XRANGE', stream, entry, entry)
    found = found and found[1] and found[1][2]
    local pending = entry and ask('XPENDING', stream, group, entry, entry, 1)
    local run = entry and call('HGET', running, id)
    if pending and pending[1] or run and sub(run, 1, #entry + 1) == entry .. ' ' then return 'held' end
    if found then delete_undelivered(stream, entry) end
    if found and #found[1] >= HEADER and #found[2] >= NONCE_END then
      return 'aborted', abort(id, sub(found[1], 1, HEADER), found[2])
    end
    -- Its entry was deleted or damaged from outside ArdiQ.
    return 'lost', lose(job_key, id, record, linked, releasing)
  end
end

