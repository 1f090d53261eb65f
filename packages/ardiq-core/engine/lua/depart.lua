-- Included in scripts that can end a job that others depend on.
--
-- `linked` has the unfinished jobs with children: the nonce of the enqueue by job id. The script
-- that ends such a job moves it to `releasing`, with its outcome, so that no crash loses its
-- children. `release` works that list off.

-- A nonce as it is written in the names of keys.
local function hex(nonce)
  return (string.gsub(nonce, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end

-- The key of a job whose name also has the nonce of the enqueue. `text` is its record or its
-- envelope: the nonce has the same position in both.
local function key_of_run(prefix, id, text) return prefix .. id .. ':' .. hex(sub(text, NONCE, NONCE_END)) end

local FAILED_BY = 'dependency failed: '

-- What children need to know about a parent that has ended: whether it has succeeded, whether it
-- had all of its inputs, the job that failed first, and the result record.
local function departure(id, record, was_ready)
  local kind, root = string.byte(record, REST + 1) or 0, id
  local succeeded = kind >= 0xc4 and kind <= 0xc6
  if not succeeded then
    local readable, _, text = pcall(cmsgpack.unpack_one, record, REST)
    if readable and type(text) == 'string' and sub(text, 1, #FAILED_BY) == FAILED_BY then
      root = sub(text, #FAILED_BY + 1)
    end
  end
  return { succeeded, was_ready, root, record }
end

-- Note that a job has ended, if others depend on it. Return whether they do.
local function depart(linked, releasing, id, record, was_ready)
  local nonce = sub(record, NONCE, NONCE_END)
  if ask('HGET', linked, id) ~= nonce then return false end
  local noted = redis.pcall('HSET', releasing, nonce .. id, cmsgpack.pack(departure(id, record, was_ready)))
  if type(noted) == 'number' then call('HDEL', linked, id) end
  return true
end

-- Delete the inputs of a job that has ended. If some are shared with other jobs, `release` does it.
local function free_inputs(base, links, releasing, name)
  local key = base .. string.match(links, '^%S+ %S+ (%S+)') .. name
  if ask('HEXISTS', key, 'shared') == 1 then
    redis.pcall('HSET', releasing, 'inputs ' .. name, '')
  else
    call('UNLINK', key)
  end
end

