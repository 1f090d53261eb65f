-- Included in scripts that can end a job as aborted. One function creates all others, because most
-- calls abort nothing.
--
-- `aborting` holds the jobs that a worker has and that are to be aborted: the nonce of the enqueue
-- by job id. A mark stays until its job has ended, so it outlives the worker.

-- The minimum lifetime of the result of an aborted job.
local ABORTED_MS = 300000

local function marks(aborting, running, job_prefix, unique_prefix, body_prefix, notes_prefix)
  -- Whether the job in this envelope is to be aborted.
  local function is_marked(id, envelope)
    return #envelope >= NONCE_END and ask('HGET', aborting, id) == sub(envelope, NONCE, NONCE_END)
  end

  -- Name, unique identity and repeat time in an envelope. The body lies between them, and cmsgpack
  -- cannot read binary data.
  local function fields_of(envelope)
    local LENGTHS, one = { [0xc4] = '>B', [0xc5] = '>H', [0xc6] = '>I4' }, cmsgpack.unpack_one
    local after_name, name = one(envelope, REST)
    local length, body = struct.unpack(LENGTHS[string.byte(envelope, after_name + 1)], envelope, after_name + 2)
    local after_expire = one(envelope, body - 1 + length)
    local after_unique, unique = one(envelope, after_expire)
    local after_headers, repeat_ms = one(envelope, after_unique), nil
    if after_headers > 0 and after_headers < #envelope then
      repeat_ms = select(2, one(envelope, after_headers))
    end
    return name, unique, repeat_ms
  end

  -- The result record of a job. `run` is its recorded start, if it has one.
  local function record_of(id, name, header, envelope, run)
    local low, _, _, _, high, enqueued = struct.unpack(HEADER_FORMAT, header)
    local started = tonumber(run and string.match(run, '^%S+ %S+ (%d+)')) or 0
    local result = cmsgpack.pack('aborted', high * 65536 + low, enqueued, started, now, id, name, '', true, nil, nil)
    return 'R' .. sub(envelope, NONCE, NONCE_END) .. string.char(0x9b) .. result
  end

  -- End a job that no worker settles. Its entry, or its member of the due set, is left to the
  -- caller. Returns the result for the waiting callers.
  local function abort(id, header, envelope, run)
    local readable, name, unique, repeat_ms = pcall(fields_of, envelope)
    -- A later version may have other fields.
    if not readable or sub(envelope, 1, 1) ~= '\1' then name, unique, repeat_ms = '', nil, nil end
    local record = record_of(id, type(name) == 'string' and name or '', header, envelope, run)
    local ttl = math.max(ABORTED_MS, tonumber(repeat_ms) or 0)
    call('SET', job_prefix .. id, record, 'PX', string.format('%.0f', ttl))
    if type(unique) == 'string' and ask('GET', unique_prefix .. unique) == id then call('DEL', unique_prefix .. unique) end
    call('UNLINK', key_of_run(body_prefix, id, envelope), key_of_run(notes_prefix, id, envelope))
    call('HDEL', running, id)
    call('HDEL', aborting, id)
    return record
  end

  return is_marked, abort
end

