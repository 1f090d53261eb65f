-- Included in scripts that end jobs that no worker settles. One function creates all others,
-- because most calls end no such job.

-- The minimum lifetime of the result of a job that a script ends.
local ENDED_MS = 300000

-- Only a job that has run can have notes.
local function endings(running, job_prefix, unique_prefix, body_prefix, notes_prefix)
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

  -- End a job. Its entry, or its member of the due set, is left to the caller. `run` is its
  -- recorded start, if it has one, `outcome` a value or an error in msgpack, and `ttl` that of its
  -- result in ms (negative: it never expires). Returns the result for the waiting callers.
  return function(id, header, envelope, run, outcome, is_aborted, ttl)
    local readable, name, unique, repeat_ms = pcall(fields_of, envelope)
    -- A later version may have other fields.
    if not readable or sub(envelope, 1, 1) ~= '\1' then name, unique, repeat_ms = '', nil, nil end
    -- A space in front of the name keeps a job that needs inputs from workers of earlier versions.
    name = type(name) == 'string' and string.match(name, '^ ?(.*)$') or ''
    local low, _, _, _, high, enqueued = struct.unpack(HEADER_FORMAT, header)
    local started = tonumber(run and string.match(run, '^%S+ %S+ (%d+)')) or 0
    local rest = cmsgpack.pack(high * 65536 + low, enqueued, started, now, id, name, '', is_aborted, nil, nil)
    local record = 'R' .. sub(envelope, NONCE, NONCE_END) .. string.char(0x9b) .. outcome .. rest
    if ttl < 0 then
      call('SET', job_prefix .. id, record)
    else
      local longest = math.max(ENDED_MS, ttl, tonumber(repeat_ms) or 0)
      call('SET', job_prefix .. id, record, 'PX', string.format('%.0f', longest))
    end
    if type(unique) == 'string' and ask('GET', unique_prefix .. unique) == id then call('DEL', unique_prefix .. unique) end
    call('UNLINK', key_of_run(body_prefix, id, envelope))
    if notes_prefix then call('UNLINK', key_of_run(notes_prefix, id, envelope)) end
    call('HDEL', running, id)
    return record
  end
end

