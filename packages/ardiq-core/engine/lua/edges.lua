-- Included in scripts that release the children of jobs that have ended.
--
-- edge    kind (1 byte) .. position of the input (4 bytes) .. nonce of the child .. id of the
--         child. The kinds:
--         t  then: the child runs if the parent has succeeded, and gets its output
--         a  after: the same, without the output
--         o  otherwise: the child runs if the parent has failed; else it ends with its output
--         f  finally: the child runs in both cases
--         m  member of a join: as `then`; if it fails, the join's other members are not needed
--         c  member of a join that collects: the child gets the result record in both cases
-- name    of a job in the names of keys: id .. ':' .. nonce in hexadecimal
-- token   of a parent: nonce .. id. The id of a graph's gate is a space, see `link`.
-- parent  in `parents:`: nonce .. position of the input (4 bytes) .. id. A job may be the parent of
--         another one several times.
-- inputs  a hash: outputs by position, each after `v` (value) or `r` (result record), or after `sv`
--         or `sr` the name of the job whose `output:` has it; `mode`, how the arguments are made of
--         them; `expected`, how many there will be; `when`, a delay and a due time in ms; `shared`,
--         the number of shared outputs
local EDGE_FORMAT, EDGE_HEAD = '>c1I4c8', 13
local GATE = ' '
local LARGE_OUTPUT, HAS_INPUTS = 4096, 8
-- The commands that these functions use.
local function link_commands()
  return 'GET', 'SET', 'EXISTS', 'UNLINK', 'DEL', 'TYPE', 'COPY', 'XADD', 'ZADD', 'ZREM', 'SREM', 'SCARD', 'LLEN', 'LPOP',
    'HGET', 'HMGET', 'HGETALL', 'HLEN', 'HSET', 'HSETNX', 'HDEL', 'HEXISTS', 'HINCRBY'
end
local INCOMPLETE = 'the workflow was lost: its producer stopped before it had sent all of it'

-- Functions that share a limit of `budget` edges. `finish` ends a waiting job, see `endings`.
local function edges(base, links, due, linked, releasing, job_prefix, finish, ttl, budget)
  local children, parents, inputs, outputs = string.match(links, '^(%S+) (%S+) (%S+) (%S+)')
  children, parents, inputs, outputs = base .. children, base .. parents, base .. inputs, base .. outputs
  -- Parents whose children are to be released, oldest first, and jobs that ended in this call.
  local ended, told, earliest = {}, {}, nil

  local function name_of(token) return sub(token, 9) .. ':' .. hex(sub(token, 1, 8)) end

  -- Take note of a job in `linked` that has ended in this call.
  local function leave(id, record, was_ready, has_inputs)
    call('HDEL', linked, id)
    local token = sub(record, NONCE, NONCE_END) .. id
    ended[#ended + 1] = { token = token, what = departure(id, record, was_ready), has_inputs = has_inputs }
  end

  -- A job that waits for others, or nil. A join is asked for once in each call, not once per
  -- member.
  local known = {}
  local function waiting(id, nonce)
    if known[id] and known[id].nonce == nonce then return known[id] end
    local record = ask('GET', job_prefix .. id)
    if not record or sub(record, 1, NONCE_END) ~= 'd' .. nonce then return nil end
    local header = REST + 1 + (string.byte(record, REST) or 0)
    if #record < header + HEADER + NONCE_END - 1 then return nil end
    known[id] = {
      nonce = nonce,
      stream = sub(record, REST + 1, header - 1),
      header = sub(record, header, header + HEADER - 1),
      envelope = sub(record, header + HEADER),
    }
    return known[id]
  end

  local function end_child(id, nonce, child, outcome, is_join)
    local name = id .. ':' .. hex(nonce)
    known[id] = nil
    call('ZREM', due, id)
    local record = finish(id, child.header, child.envelope, nil, outcome, false, ttl)
    told[#told + 1], told[#told + 2] = id, record
    -- The members of a join are not needed any more.
    if is_join and ask('EXISTS', parents .. name) == 1 then
      redis.pcall('HSET', releasing, 'members ' .. name, '')
    else
      call('UNLINK', parents .. name)
    end
    if ask('HGET', linked, id) == nonce then
      leave(id, record, false, true)
    else
      free_inputs(base, links, releasing, name)
    end
  end

  -- A waiting job is ready: queue it, or schedule it if it has a delay.
  local function start(id, nonce, child)
    local key, job_key = inputs .. id .. ':' .. hex(nonce), job_prefix .. id
    known[id] = nil
    local low, deaths, misses, flags, high = struct.unpack(HEADER_FORMAT, child.header)
    if math.floor(flags / WAITS) % 2 == 1 then flags = flags - WAITS end
    local header = struct.pack(HEADER_FORMAT, low, deaths, misses, flags, high, now)
    local delay, at = string.match(ask('HGET', key, 'when') or '', '^(%d+) (%d+)$')
    local when = delay and (at ~= '0' and tonumber(at) or now + delay) or now
    if math.floor(flags / HAS_INPUTS) % 2 == 0 then
      call('UNLINK', key)
    elseif delay then
      call('HDEL', key, 'when')
    end
    local found = call('TYPE', base .. child.stream).ok
    -- If its stream has the wrong type, `promote` sets that aside.
    if when > now or found ~= 'stream' and found ~= 'none' then
      call('SET', job_key, 'd' .. nonce .. string.char(#child.stream) .. child.stream .. header .. child.envelope)
      call('ZADD', due, when, id)
      earliest = math.min(earliest or when, when)
    else
      call('ZREM', due, id)
      add_to_stream(base, base .. child.stream, job_key, header .. id, child.envelope)
    end
  end

  local function put(parent, name, position, kind, value)
    local key, field = inputs .. name, string.format('%.0f', position)
    if #value <= LARGE_OUTPUT or not parent.is_shared then
      redis.pcall('HSET', key, field, kind .. value)
      return
    end
    local owner = name_of(parent.token)
    -- The previous reader may have ended in this call, and deleted the output.
    if redis.pcall('HINCRBY', outputs .. owner, 'readers', 1) == 1 then parent.stored = {} end
    if not parent.stored[kind] then redis.pcall('HSETNX', outputs .. owner, kind, value) end
    parent.stored[kind] = true
    redis.pcall('HSET', key, field, 's' .. kind .. owner)
    redis.pcall('HINCRBY', key, 'shared', 1)
  end

  -- A fallback gets the inputs of the job that it replaces.
  local function copy_inputs(parent, name)
    local from, to = inputs .. name_of(parent.token), inputs .. name
    local when = ask('HGET', to, 'when')
    if redis.pcall('COPY', from, to, 'REPLACE') ~= 1 then return end
    if when then call('HSET', to, 'when', when) end
    if ask('HEXISTS', to, 'shared') ~= 1 then return end
    local fields = call('HGETALL', to)
    for n = 2, #fields, 2 do
      local owner = string.match(fields[n], '^s[vr](.+)$')
      if owner and tonumber(fields[n - 1]) then redis.pcall('HINCRBY', outputs .. owner, 'readers', 1) end
    end
  end

  -- The value of a job that has succeeded, and the same in msgpack, as it stands in its result.
  local function value_of(parent)
    if not parent.value then
      local HEADS, record = { [0xc4] = '>B', [0xc5] = '>H', [0xc6] = '>I4' }, parent.what[4]
      local length, value = struct.unpack(HEADS[string.byte(record, REST + 1)], record, REST + 2)
      parent.packed, parent.value = sub(record, REST + 1, value + length - 1), sub(record, value, value + length - 1)
    end
    return parent.value, parent.packed
  end

  -- One parent has ended: tell one child. A repeated call changes nothing.
  local function arrive(parent, edge)
    local kind, position, nonce = struct.unpack(EDGE_FORMAT, edge)
    local id = sub(edge, EDGE_HEAD + 1)
    local name = id .. ':' .. hex(nonce)
    local member = sub(parent.token, 1, 8) .. struct.pack('>I4', position) .. sub(parent.token, 9)
    if redis.pcall('SREM', parents .. name, member) ~= 1 then return end
    local child = waiting(id, nonce)
    if not child then return end
    local succeeded, was_ready, root, record = unpack(parent.what)
    if kind == 'o' then
      if succeeded then return end_child(id, nonce, child, select(2, value_of(parent))) end
      if was_ready then copy_inputs(parent, name) end
    elseif not succeeded and kind ~= 'f' and kind ~= 'c' then
      local text = sub(parent.token, 9) == GATE and INCOMPLETE or FAILED_BY .. root
      return end_child(id, nonce, child, cmsgpack.pack(text), kind == 'm')
    elseif kind == 't' or kind == 'm' then
      put(parent, name, position, 'v', (value_of(parent)))
    elseif kind == 'c' then
      put(parent, name, position, 'r', record)
    end
    if redis.pcall('SCARD', parents .. name) == 0 then start(id, nonce, child) end
  end

  -- Add a parent that an earlier call has put into `releasing`, with the value of its field.
  local function resume(token, packed)
    ended[#ended + 1] = { token = token, packed_what = packed, has_inputs = true, is_listed = true }
  end

  -- Whether it is known how a parent has ended. Other software may have written anything.
  local function is_known(parent)
    if parent.packed_what then
      local readable, what = pcall(cmsgpack.unpack, parent.packed_what)
      parent.what = readable and type(what) == 'table' and #what == 4 and what or nil
    end
    return parent.what and #parent.token > 8
  end

  -- Release children until the budget is used up. The rest stays in `releasing`. Return whether
  -- there is a rest.
  local function cascade()
    local n = 1
    while ended[n] and budget > 0 do
      local parent = ended[n]
      local key, most = children .. name_of(parent.token), budget
      local page = is_known(parent) and redis.pcall('LPOP', key, most)
      page = type(page) == 'table' and not page.err and page or {}
      parent.is_shared, parent.stored = #page > 1 or parent.is_listed, {}
      for _, edge in ipairs(page) do
        if #edge > EDGE_HEAD then arrive(parent, edge) end
      end
      budget = budget - math.max(1, #page)
      if #page == most and (ask('LLEN', key) or 0) > 0 then break end
      if parent.is_listed then call('HDEL', releasing, parent.token) end
      if parent.has_inputs then free_inputs(base, links, releasing, name_of(parent.token)) end
      n = n + 1
    end
    for rest = n, #ended do
      local parent = ended[rest]
      if not parent.is_listed then redis.pcall('HSET', releasing, parent.token, cmsgpack.pack(parent.what)) end
    end
    return n <= #ended
  end

  return {
    leave = leave,
    waiting = waiting,
    end_child = end_child,
    arrive = arrive,
    resume = resume,
    cascade = cascade,
    told = told,
    earliest = function() return earliest end,
  }
end

