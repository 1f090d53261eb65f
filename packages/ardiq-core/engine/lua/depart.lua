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

-- The result record of a job that has failed, although no worker has said so.
local function failure(id, nonce, text)
  return 'R' .. nonce .. string.char(0x9b) .. cmsgpack.pack(text, 0, 0, 0, now, id, '', '', false, nil, nil)
end

local UNKNOWN_RESULT = 'the result of the job is not known any more'

-- Note that a job has ended, if others depend on it. Return whether they do.
local function depart(linked, releasing, id, record, was_ready)
  local nonce = sub(record, NONCE, NONCE_END)
  if ask('HGET', linked, id) ~= nonce then return false end
  local noted = redis.pcall('HSET', releasing, nonce .. id, cmsgpack.pack(departure(id, record, was_ready)))
  if type(noted) == 'number' then call('HDEL', linked, id) end
  return true
end

-- One job less needs an output that is shared. `stored` is an input, as it stands in `inputs:`.
local function release_output(base, links, stored)
  local owner = string.match(stored, '^s[vr](.+)$')
  local key = owner and base .. string.match(links, '^%S+ %S+ %S+ (%S+)') .. owner
  if owner and redis.pcall('HINCRBY', key, 'readers', -1) == 0 then call('UNLINK', key) end
end

-- Delete the inputs of a job that has ended. If many are shared with other jobs, `release` does it.
local function free_inputs(base, links, releasing, name)
  local MOST_FIELDS = 50
  local key = base .. string.match(links, '^%S+ %S+ (%S+)') .. name
  if ask('HEXISTS', key, 'shared') ~= 1 then
    call('UNLINK', key)
  elseif call('HLEN', key) > MOST_FIELDS then
    redis.pcall('HSET', releasing, 'inputs ' .. name, '')
  else
    local fields = call('HGETALL', key)
    for n = 1, #fields, 2 do
      if tonumber(fields[n]) then release_output(base, links, fields[n + 1]) end
    end
    call('UNLINK', key)
  end
end

