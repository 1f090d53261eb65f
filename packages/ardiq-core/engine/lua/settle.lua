-- settle: commit the outcomes of runs, each only if its delivery is still valid.
--
-- KEYS  due, running, waiters, dead, aborting, linked, releasing, then pairs (returned stream, lane
--       stream)
-- ARGV  base, job prefix, unique prefix, body prefix, wake channel, group, default result TTL in
--       ms, prefix of results, prefix of notes, names of links, then per stream: its position from
--       0 after the seven, number of jobs, and per job (oldest entry first): entry id, key of the
--       job, spec, data.
--       spec: "" for a finished run with the default TTL, else
--       "<outcome> <number> <1 if its start is recorded, plus 2 if it may have notes, plus 4 if it
--       has inputs> <ms for which its enqueue may be repeated> <unique digest or -> <key of the
--       body or ->". The outcomes:
--         D  finished; number = TTL in ms, 0 not stored, negative never expires; data = result
--            record
--         X  finished and dead-lettered; number and data as for D
--         P  as X, unless a worker declared dead while running it is alive: then it runs again,
--            with fewer deaths; data = length (2 bytes) and key of the job's survivals, result
--            record
--         R  to run again; number = delay in ms; data = new header
--         H  returned to the queue, to be delivered before new work; data = header
--         V  its start was refused: dropped if the job has ended or is somewhere else, otherwise as
--            H; data = header
-- out   positions (from 0, over all jobs) whose delivery was no longer valid: nothing was changed
--       for them; also -1 if this user cannot publish
-- A job that would run again ends as aborted if it is marked in `aborting`. Jobs that depend on one
-- that has ended are released, up to a limit. `release` does the rest.
local due, running, waiters, dead, aborting, linked, releasing = unpack(KEYS, 1, 7)
local FIRST_STREAM, FIRST_BATCH = 8, 11
local base, job_prefix, unique_prefix, body_prefix, wake, group = unpack(ARGV, 1, 6)
-- Kept as text: a number would be formatted again for every job.
local default_ttl, result_prefix, notes_prefix, links = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local stored_for_a_while = tonumber(default_ttl) >= TOMBSTONE_MS
local refused, finished, started, ended, earliest, seen = {}, {}, {}, {}, nil, 0
-- Most of the time, no caller is waiting, no job is to be aborted, and none depends on another.
local some = call('EXISTS', waiters, aborting, linked)
local awaited = some == 3 or some > 0 and call('EXISTS', waiters) == 1
local others = awaited and some - 1 or some
local has_marks = others == 2 or others == 1 and call('EXISTS', aborting) == 1
local has_links = others == 2 or others == 1 and not has_marks
local is_marked, abort
if has_marks then
  is_marked, abort =
    marks(aborting, linked, releasing, base, links, endings(running, job_prefix, unique_prefix, body_prefix, notes_prefix))
end
-- Ids and results of the jobs that have ended, and names of those that had inputs.
local parted, results, had_inputs, MOST_EDGES = {}, {}, {}, 200
-- The server closes a subscribed connection when its output buffer grows too large. A result of
-- more bytes than this is not sent: the message tells callers to read it, and it is kept long
-- enough for that, whatever its TTL.
local LARGEST_MESSAGE, READABLE_MS = 65536, 30000
-- A result that callers may have missed is kept until they check again, which they do at least once
-- a minute.
local MISSED_MS, short_lived = 90000, {}

local function id_of(job_key) return sub(job_key, #job_prefix + 1) end

-- The record shows a repeated enqueue that the job existed, so it is kept for as long as the
-- enqueue may be repeated. A result that expires earlier has its own key.
local function store(job_key, record, ttl, guard)
  if ttl < 0 then
    call('SET', job_key, record)
  elseif ttl >= guard then
    call('SET', job_key, record, 'PX', ttl)
  else
    call('SET', job_key, 'T' .. sub(record, NONCE, NONCE_END), 'PX', guard)
    if ttl > 0 then call('SET', result_prefix .. id_of(job_key), record, 'PX', ttl) end
  end
end

local function finish(job_key, record, ttl, guard)
  local message = record
  if awaited and #record > LARGEST_MESSAGE then
    message = ''
    if ttl >= 0 and ttl < READABLE_MS and redis.pcall('HEXISTS', waiters, id_of(job_key)) == 1 then
      ttl = READABLE_MS
    end
  end
  store(job_key, record, ttl, guard)
  if has_marks then ended[#ended + 1] = id_of(job_key) end
  if has_links then parted[#parted + 1], results[#results + 1] = id_of(job_key), record end
  if awaited then
    local id = id_of(job_key)
    finished[#finished + 1] = id
    finished[#finished + 1] = message
    if ttl >= 0 and ttl < MISSED_MS then short_lived[id] = { record, guard } end
  end
end

-- Add a job that no worker can run to the dead letters, complete with its body if that is stored
-- separately.
local function bury(id, record, fields, body)
  local letter = { 'id', id, 'record', record, 'value', fields and sub(fields[1], 1, HEADER) .. fields[2] or '' }
  local separate = body ~= '-' and ask('GET', body)
  if separate then letter[7], letter[8] = 'body', separate end
  call('XADD', dead, 'MAXLEN', '~', 100000, '*', unpack(letter))
end

-- Queue a job again: at once, after a delay, or ahead of new work.
local function put_back(position, job_key, id, outcome, delay, header, envelope)
  local is_returned = (position - FIRST_STREAM) % 2 == 0
  local lane = is_returned and position + 1 or position
  if outcome == 'H' then
    add_to_stream(base, KEYS[lane - 1], job_key, header .. id, envelope)
  elseif delay > 0 then
    local suffix = sub(KEYS[lane], #base + 1)
    local record = 'd' .. sub(envelope, NONCE, NONCE_END) .. string.char(#suffix) .. suffix .. header .. envelope
    call('SET', job_key, record)
    call('ZADD', due, now + delay, id)
    earliest = math.min(earliest or now + delay, now + delay)
  else
    add_to_stream(base, KEYS[lane], job_key, header .. id, envelope)
  end
end

-- Settle any outcome but the common one. Return false if the job should run again but its entry is
-- gone.
local function settle(position, entry, job_key, spec, data)
  local outcome, number, has, guard, unique, body = string.match(spec, '^(%u) (%-?%d+) (%d) (%d+) (%S+) (.+)$')
  local is_recorded, is_noted, has_inputs = has % 2 == 1, math.floor(has / 2) % 2 == 1, has + 0 >= 4
  local stream = KEYS[position]
  local id, found = id_of(job_key), outcome ~= 'D' and call('XRANGE', stream, entry, entry)[1]
  number, guard = tonumber(number), tonumber(guard)
  if outcome == 'P' then
    local survivals, rest = struct.unpack('>Hc0', data)
    data = sub(data, rest)
    local survived = found and ask('SCARD', survivals) or 0
    outcome = 'X'
    if survived > 0 then
      local low, deaths, misses, flags, high, enqueued = struct.unpack(HEADER_FORMAT, found[2][1])
      outcome, number = 'R', 0
      data = struct.pack(HEADER_FORMAT, low, math.max(0, deaths - survived), misses, flags, high, enqueued)
      call('DEL', survivals)
    end
  end
  if outcome == 'V' then
    if not found or is_elsewhere(ask('GET', job_key), entry, sub(stream, #base + 1)) then return true end
    outcome = 'H'
  end
  if is_recorded then started[#started + 1] = id end
  local is_again = (outcome == 'R' or outcome == 'H') and found
  if is_again and has_marks and is_marked(id, found[2][2]) then
    local record = abort(id, data, found[2][2], is_recorded and ask('HGET', running, id))
    if awaited then finished[#finished + 1], finished[#finished + 2] = id, record end
    return true
  end
  if is_again then
    put_back(position, job_key, id, outcome, number, data, found[2][2])
    return true
  end
  if outcome == 'X' then
    bury(id, data, found and found[2], body)
    -- An entry that other software wrote may name any job, so that job's record is not touched.
    if not is_at(ask('GET', job_key), entry, sub(stream, #base + 1)) then return true end
  end
  if outcome == 'D' or outcome == 'X' then
    finish(job_key, data, number, guard)
    if has_inputs then had_inputs[id] = id .. ':' .. hex(sub(data, NONCE, NONCE_END)) end
  else
    -- The entry was deleted from outside.
    local record = lose(job_key, id, ask('GET', job_key) or '', linked, releasing)
    data = record
    if has_marks then ended[#ended + 1] = id end
    if awaited then finished[#finished + 1], finished[#finished + 2] = id, record end
  end
  if unique ~= '-' and ask('GET', unique_prefix .. unique) == id then call('DEL', unique_prefix .. unique) end
  if body ~= '-' then call('UNLINK', body) end
  if is_noted then call('UNLINK', key_of_run(notes_prefix, id, data)) end
  return outcome == 'D' or outcome == 'X'
end

local function older(a, b)
  local a_ms, a_number = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_number = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_number) < tonumber(b_number)
end

-- Whether every entry of the stream is pending, settled or not yet delivered, so that the settled
-- ones are the only entries before the oldest pending one. If a consumer was deleted or an
-- entry was acknowledged by hand, the stream has more entries: `scrub` queues these again. The lag
-- can be unknown, or too high by entries that were deleted, so the entries themselves are counted
-- if the numbers do not agree.
local function is_exact(stream, count, pending, border, trimmed)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local lag = not groups.err and #groups == 1 and groups[1][12]
  if lag and pending + lag + count == redis.pcall('XLEN', stream) then return true end
  local found = redis.pcall('XRANGE', stream, '-', '(' .. border, 'COUNT', trimmed + 1)
  return not found.err and #found == trimmed
end

-- Delete settled entries that the group had delivered. The group delivers in order, so all entries
-- older than the oldest pending one were settled. One XTRIM removes them: the server drops whole
-- nodes instead of searching for each entry.
local function delete(stream, entries)
  local summary, count = redis.pcall('XPENDING', stream, group), #entries
  local oldest = summary[2]
  local low, high = 0, oldest and count or count - 1
  if oldest and not older(entries[count], oldest) then
    while low < high do
      local middle = math.ceil((low + high) / 2)
      if older(entries[middle], oldest) then low = middle else high = middle - 1 end
    end
  end
  -- If the user may not run these commands, all entries are deleted by id.
  local border = oldest or entries[count]
  if summary.err or (high > 0 and not is_exact(stream, count, summary[1], border, high)) then high = 0 end
  if high > 0 and type(redis.pcall('XTRIM', stream, 'MINID', border)) == 'table' then high = 0 end
  if high < count then call('XDEL', stream, unpack(entries, high + 1)) end
end

-- Read all arguments, and make every check that can fail, before the first write. The common case
-- is quick: one stream, and only results.
local batches, i, with_options, with_more = {}, FIRST_BATCH, false, false
while i <= #ARGV do
  local position, count, entries = ARGV[i] + FIRST_STREAM, tonumber(ARGV[i + 1]), {}
  for n = 1, count do
    local at = i + 2 + (n - 1) * 4
    local spec = ARGV[at + 2]
    entries[n] = ARGV[at]
    if spec ~= '' then
      with_options = true
      with_more = with_more or sub(spec, 1, 1) ~= 'D'
    end
  end
  batches[#batches + 1] = { position = position, first = i + 2, entries = entries }
  i = i + 2 + 4 * count
end
local some_stream, some_key = KEYS[batches[1].position], ARGV[batches[1].first + 1]
need(some_stream, 'XDEL')
need(some_key, 'GET', (awaited or not stored_for_a_while) and 'SET' or 'PSETEX')
if with_options then
  need(running, 'SET', 'HDEL', 'DEL', 'UNLINK', 'HEXISTS', 'HLEN', 'HGETALL', 'HINCRBY', 'HSET')
  expect('hash', running, releasing)
end
if has_marks then
  need(aborting, 'SET', 'HGET', 'HEXISTS', 'HLEN', 'HGETALL', 'HINCRBY', 'HSET', 'HDEL', 'DEL', 'UNLINK')
  expect('hash', aborting, running)
end
if has_links then
  need(linked, link_commands())
  expect('hash', linked, releasing, running)
  expect('zset', due)
end
if with_more then
  need(dead, 'XRANGE', 'XADD', 'ZADD', 'ZRANGE', 'SCARD')
  expect('zset', due)
  expect('stream', dead, unpack(KEYS, FIRST_STREAM))
elseif #batches > 1 then
  expect('stream', unpack(KEYS, FIRST_STREAM))
end

for _, batch in ipairs(batches) do
  local position, i, entries = batch.position, batch.first, batch.entries
  local stream = KEYS[position]
  local suffix = sub(stream, #base + 1)
  local all_held = call('XACK', stream, group, unpack(entries)) == #entries
  for n = 1, #entries do
    local entry, job_key, spec, data = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    i = i + 4
    if not all_held and not is_at(ask('GET', job_key), entry, suffix) then
      refused[#refused + 1] = seen
    elseif spec == '' and stored_for_a_while and not awaited then
      call('PSETEX', job_key, default_ttl, data)
      if has_marks then ended[#ended + 1] = id_of(job_key) end
      if has_links then parted[#parted + 1], results[#results + 1] = id_of(job_key), data end
    elseif spec == '' then
      finish(job_key, data, tonumber(default_ttl), TOMBSTONE_MS)
    elseif not settle(position, entry, job_key, spec, data) then
      refused[#refused + 1] = seen
    end
    seen = seen + 1
  end
  if all_held then delete(stream, entries) else call('XDEL', stream, unpack(entries)) end
end

-- Release the jobs that depend on those that have ended. Return whether there are more.
local function release_children()
  local nonces = call('HMGET', linked, unpack(parted))
  local finish_child = endings(running, job_prefix, unique_prefix, body_prefix)
  local graph = edges(base, links, due, linked, releasing, job_prefix, finish_child, tonumber(default_ttl), MOST_EDGES)
  for n, id in ipairs(parted) do
    -- The inputs of a parent are kept until its last child was released.
    if nonces[n] == sub(results[n], NONCE, NONCE_END) then
      graph.leave(id, results[n], true, had_inputs[id] ~= nil)
      had_inputs[id] = nil
    end
  end
  local has_more, child_due = graph.cascade(), graph.earliest()
  if child_due then earliest = math.min(earliest or child_due, child_due) end
  if awaited then
    for n = 1, #graph.told, 2 do
      finished[#finished + 1] = graph.told[n]
      finished[#finished + 1] = #graph.told[n + 1] <= LARGEST_MESSAGE and graph.told[n + 1] or ''
    end
  end
  return has_more
end

local has_more = #parted > 0 and release_children()
for _, name in pairs(had_inputs) do
  free_inputs(base, links, releasing, name)
  has_more = has_more or call('HEXISTS', releasing, 'inputs ' .. name) == 1
end
if #started > 0 then call('HDEL', running, unpack(started)) end
if #ended > 0 then call('HDEL', aborting, unpack(ended)) end
if earliest or has_more or #finished > 0 then
  local notify, announce_due, is_refused, publish = tell()
  if has_more then publish(wake, 'release') end
  if earliest then announce_due(due, wake, earliest) end
  for n = 1, #finished, 2 do
    local id = finished[n]
    local missed = not notify(waiters, id, finished[n + 1]) and short_lived[id]
    if missed then store(job_prefix .. id, missed[1], MISSED_MS, missed[2]) end
  end
  if is_refused() then refused[#refused + 1] = -1 end
end
return refused
