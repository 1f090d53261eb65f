-- link: accept jobs that depend on each other, or on jobs of the queue.
--
-- KEYS  due, lanes, running, waiters, linked, releasing, lane streams lowest first
-- ARGV  base, job prefix, unique prefix, body prefix, prefix of results, names of links, wake
--       channel, prefix of a lane's stream, nonce, part, parts, ms within which the next part has
--       to come, result TTL in ms, number of jobs,
--       per job (parents before children): id, spec, envelope; then per edge: id of the parent, id
--       of the child, kind (see edges.lua), position of the input
--       spec: "<lane> <1 has parents, else 0> <delay ms> <due ms> <flags> <unique digest or ->
--       <mode of the inputs or -> <key of the body or ->"
-- out   now, 1 if this user cannot publish (else 0), then what happened: "done"; "unknown", a job
--       of the queue that is a parent does not exist; "unstored", its result was not stored or has
--       expired; "failed", it has failed before its fallback came; "taken", an unfinished job has
--       the id or the identity of a job with parents; "late", the last part came too long ago; then
--       the id that this is about, or pairs
--       (position from 0, id of the unfinished job that stands for this one)
-- Nothing has changed unless it is done. A graph above the size of one call comes in parts. Until
-- the last part, all of its jobs wait for a gate: a parent that never runs. A job without parents
-- whose id or identity belongs to an unfinished job is that job.
local due, known_lanes, running, waiters, linked, releasing = unpack(KEYS, 1, 6)
local base, job_prefix, unique_prefix, body_prefix, result_prefix, links, wake, lane_prefix = unpack(ARGV, 1, 8)
local nonce, part, parts, gate_ms = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local ttl, count = tonumber(ARGV[13]), ARGV[14]
local FIRST_LANE, FIRST_JOB, OPEN_MS, MOST_EDGES = 7, 15, 600000, 100
local children, parents, inputs, _, gates = string.match(links, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
children, parents, inputs = base .. children, base .. parents, base .. inputs
local gate = parts > 1 and base .. gates .. hex(nonce)
local _, is_alive, holder_of = presence()
local notify, announce_due, is_refused, publish = tell()
local jobs, by_id, identities, out = {}, {}, {}, { now, 0, 'done' }
local function answer(what, id) return { now, 0, what, id } end

-- The nonce of an unfinished job. One that is missing from the due set is there again soon.
local function nonce_of(id)
  local record = ask('GETRANGE', job_prefix .. id, 0, 511)
  local kind = record and #record >= NONCE_END and sub(record, 1, 1)
  if kind == 'd' or kind == 'q' and is_alive(base, due, running, id, record) then return sub(record, NONCE, NONCE_END) end
end

-- Read all jobs and edges, and make every check that can fail, before the first write.
local opened = gate and ask('GET', gate)
-- Whether an earlier try of this call was successful.
local is_repeated = opened == 'open' or opened and tonumber(opened) > part or false
if gate and part > 0 and not opened then return answer('late', '') end
local n = FIRST_JOB
for position = 0, count - 1 do
  local id, spec, envelope = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local lane, has_parents, delay, at, flags, unique, mode, body =
    string.match(spec, '^(%d+) (%d) (%d+) (%d+) (%d+) (%S+) (%S+) (.+)$')
  local job = { id = id, envelope = envelope, lane = KEYS[FIRST_LANE + lane], delay = tonumber(delay) }
  job.at, job.flags, job.mode = tonumber(at), tonumber(flags), mode ~= '-' and mode
  job.unique, job.body = unique ~= '-' and unique_prefix .. unique, body ~= '-' and body
  job.waits = has_parents == '1' or parts > 1
  local old = ask('GETRANGE', job_prefix .. id, 0, NONCE_END - 1) or ''
  local holder
  if sub(old, NONCE, NONCE_END) == nonce then
    is_repeated = true
  else
    holder = nonce_of(id) and id or job.unique and holder_of(base, due, running, job_prefix, job.unique, id)
    -- Two jobs of this call may have the same identity.
    holder = holder or job.unique and identities[job.unique]
  end
  if holder and has_parents == '1' and not is_repeated then return answer('taken', holder) end
  if job.unique and not holder then identities[job.unique] = id end
  if holder then
    out[#out + 1], out[#out + 2] = position, holder
    job.other, job.nonce = holder, nonce_of(holder)
  elseif not is_repeated and job.body and ask('EXISTS', job.body) == 0 then
    return redis.error_reply('GONE the body that was sent ahead')
  end
  jobs[#jobs + 1], by_id[id], n = job, job, n + 3
end

if is_repeated then return out end

-- What an edge needs to know about a parent: its nonce and, if it has ended, its result.
local function parent_of(id)
  if by_id[id] then return by_id[id] end
  local parent = { id = id, nonce = nonce_of(id) }
  by_id[id] = parent
  if parent.nonce then return parent end
  local record = ask('GET', job_prefix .. id)
  local kind = record and sub(record, 1, 1)
  if kind == 'T' then
    local result = ask('GET', result_prefix .. id)
    if not result or sub(result, NONCE, NONCE_END) ~= sub(record, NONCE, NONCE_END) then
      parent.fault = 'unstored'
      return parent
    end
    record, kind = result, 'R'
  end
  if kind == 'R' then
    parent.nonce, parent.result = sub(record, NONCE, NONCE_END), record
  else
    parent.fault = 'unknown'
  end
  return parent
end

local between = {}
while n <= #ARGV do
  local of, child = parent_of(ARGV[n]), by_id[ARGV[n + 1]] or { id = ARGV[n + 1] }
  if of.fault then return answer(of.fault, of.id) end
  -- The arguments of a job are not stored any more when it has failed.
  if of.result and ARGV[n + 2] == 'o' and not departure(of.id, of.result, true)[1] then return answer('failed', of.id) end
  between[#between + 1] = { parent = of, child = child, kind = ARGV[n + 2], position = ARGV[n + 3] }
  n = n + 4
end
expect('zset', due)
expect('hash', running, waiters, linked, releasing)
expect('stream', unpack(KEYS, FIRST_LANE))
need(due, link_commands())
need(due, 'SADD', 'RPUSH', 'PERSIST')

local lane_names = {}
for i = FIRST_LANE, #KEYS do lane_names[#lane_names + 1] = sub(KEYS[i], #base + #lane_prefix + 1) end
call('SADD', known_lanes, unpack(lane_names))
local finish = endings(running, job_prefix, unique_prefix, body_prefix)
local graph = edges(base, links, due, linked, releasing, job_prefix, finish, ttl, MOST_EDGES)
local earliest

local function edge(kind, position, child)
  return struct.pack(EDGE_FORMAT, kind, position, nonce) .. child.id
end

local function parent(of_parent, position, id) return of_parent .. struct.pack('>I4', position) .. id end

local function add(job)
  local stream, job_key = sub(job.lane, #base + 1), job_prefix .. job.id
  local name = job.id .. ':' .. hex(nonce)
  local flags = job.flags + (job.waits and WAITS or 0)
  local header = struct.pack(NEW_HEADER_FORMAT, 0, 0, 0, flags, now)
  local when = job.at > 0 and job.at or job.delay > 0 and now + job.delay or 0
  -- Keys that an earlier job with this id and this nonce cannot have: they are new.
  if job.mode then call('HSET', inputs .. name, 'mode', job.mode) end
  if job.waits and (job.delay > 0 or job.at > 0) then
    call('HSET', inputs .. name, 'when', string.format('%.0f %.0f', job.delay, job.at))
  end
  if job.waits or when > now then
    call('SET', job_key, 'd' .. nonce .. string.char(#stream) .. stream .. header .. job.envelope)
    call('ZADD', due, job.waits and NOT_YET or when, job.id)
    if not job.waits then earliest = math.min(earliest or when, when) end
  else
    add_to_stream(base, job.lane, job_key, header .. job.id, job.envelope)
  end
  if gate then
    call('SADD', parents .. name, parent(nonce, 0, GATE))
    call('RPUSH', children .. GATE .. ':' .. hex(nonce), edge('a', 0, job))
  end
  if job.unique then call('SET', job.unique, job.id) end
  if job.body then call('PERSIST', job.body) end
end

for _, job in ipairs(jobs) do
  if not job.other then
    add(job)
  elseif job.body then
    call('UNLINK', job.body)
  end
end
local INPUT_KINDS, ended, dropped = { t = true, m = true, c = true }, {}, false
for _, one in ipairs(between) do
  local position = tonumber(one.position)
  local id, of_parent = one.parent.other or one.parent.id, one.parent.nonce or nonce
  local bytes, name = edge(one.kind, position, one.child), one.child.id .. ':' .. hex(nonce)
  call('SADD', parents .. name, parent(of_parent, position, id))
  if not graph.waiting(one.child.id, nonce) then
    -- An earlier part has ended it: its members are not needed.
    call('HSET', releasing, 'members ' .. name, '')
    dropped = true
  elseif INPUT_KINDS[one.kind] then
    call('HINCRBY', inputs .. name, 'expected', 1)
  end
  if one.parent.result then
    ended[#ended + 1] = { parent = one.parent, edge = bytes }
  else
    call('HSET', linked, id, of_parent)
    call('RPUSH', children .. id .. ':' .. hex(of_parent), bytes)
  end
end
for _, one in ipairs(ended) do
  local of = one.parent
  of.token, of.what, of.stored = of.nonce .. of.id, of.what or departure(of.id, of.result, true), of.stored or {}
  of.is_shared = #ended > 1
  graph.arrive(of, one.edge)
end
if gate and part == parts - 1 then
  call('SET', gate, 'open', 'PX', OPEN_MS)
  call('HSET', releasing, nonce .. GATE, cmsgpack.pack({ true, true, GATE, '' }))
elseif gate then
  call('SET', gate, part + 1, 'PX', gate_ms)
end
local LARGEST_MESSAGE, has_more = 65536, graph.cascade() or dropped or gate and part == parts - 1
earliest = graph.earliest() and math.min(earliest or graph.earliest(), graph.earliest()) or earliest
if earliest then announce_due(due, wake, earliest) end
for m = 1, #graph.told, 2 do
  notify(waiters, graph.told[m], #graph.told[m + 1] <= LARGEST_MESSAGE and graph.told[m + 1] or '')
end
if has_more then publish(wake, 'release') end
if is_refused() then out[2] = 1 end
return out
