-- enqueue: accept jobs, and add each to its lane or to the due set.
--
-- KEYS  due, lanes, running, lane streams lowest first
-- ARGV  base, job prefix, unique prefix, wake channel, prefix of a lane's stream, nonce of the
--       call, then groups of jobs with the same options: spec, number of jobs, and per job: id,
--       envelope.
--       spec: the lane's index (from 0) for jobs whose ids were generated for this call, else
--       "<lane> <delay ms> <due ms> <unique digest or -> <key of the body or ->"
-- out   now, 1 if this user cannot publish (else 0), then pairs (position from 0, id of the
--       unfinished job that holds the unique identity)
-- If the id of a job belongs to an unfinished job, that job is left unchanged. A job that an
-- earlier try of this call added (same nonce) counts as added. A call that fails has changed
-- nothing. The error GONE means that a body that was sent ahead is missing: the producer has to
-- send the body and the call again. Each body belongs to one job, so a group with a body has one
-- job.
local due, known_lanes, running = KEYS[1], KEYS[2], KEYS[3]
local FIRST_LANE, FIRST_RUN = 4, 7
local base, job_prefix, unique_prefix, wake = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lane_prefix, nonce = ARGV[5], ARGV[6]
local _, is_alive, holder_of
local header = struct.pack(NEW_HEADER_FORMAT, 0, 0, 0, 0, now)
local header_with_separate_body = struct.pack(NEW_HEADER_FORMAT, 0, 0, 0, SEPARATE_BODY, now)
local queued, out, lanes, lane_names, earliest = 'q' .. nonce, { now, 0 }, {}, {}, nil
for i = FIRST_LANE, #KEYS do
  lanes[tostring(i - FIRST_LANE)] = { key = KEYS[i], suffix = ' ' .. sub(KEYS[i], #base + 1) }
  lane_names[#lane_names + 1] = sub(KEYS[i], #base + #lane_prefix + 1)
end

-- Whether a record may be overwritten: not if its job is unfinished, and not if an earlier try of
-- this call wrote it.
local function is_free(id, old)
  local kind = sub(old, 1, 1)
  if #old < NONCE_END then return true end
  if kind == 'R' or kind == 'T' then return sub(old, NONCE, NONCE_END) ~= nonce end
  if not is_alive then _, is_alive, holder_of = presence() end
  if kind ~= 'q' and kind ~= 'd' or is_alive(base, due, running, id, old) then return false end
  -- The job is missing from the due set, so its due time is lost.
  if kind == 'd' then redis.pcall('ZADD', due, due_again(old), id) end
  return kind == 'q'
end

-- Write the record. Return false and the old record if the id belongs to an unfinished job, or if
-- this very job has ended.
local function claim(id, record)
  local job_key = job_prefix .. id
  local old = ask('SET', job_key, record, 'NX', 'GET')
  if old == false then return true end
  -- A key that is not a string is not a job record.
  if old == nil or is_free(id, old) then
    call('SET', job_key, record)
    return true
  end
  return false, old
end

-- Add jobs with new ids, with one command for all records. If an earlier try wrote some of them,
-- write them one by one.
local function queue_new(lane, first, last)
  local records, entries, n = {}, {}, 0
  for i = first, last, 2 do
    n = n + 1
    entries[n] = call('XADD', lane.key, '*', header .. ARGV[i], ARGV[i + 1])
    records[2 * n - 1], records[2 * n] = job_prefix .. ARGV[i], queued .. entries[n] .. lane.suffix
  end
  if call('MSETNX', unpack(records)) == 1 then return end
  for k = 1, n do
    if not claim(ARGV[first + 2 * k - 2], records[2 * k]) then call('XDEL', lane.key, entries[k]) end
  end
end

-- Add a group of jobs, which share their options.
local function accept(run)
  local function queue(lane, id, label, envelope)
    local entry = call('XADD', lane.key, '*', label, envelope)
    local made, old = claim(id, queued .. entry .. lane.suffix)
    if not made then call('XDEL', lane.key, entry) end
    return made, old
  end

  local function schedule(lane, id, value, when)
    local stream = sub(lane.suffix, 2)
    local made, old = claim(id, 'd' .. nonce .. string.char(#stream) .. stream .. value)
    if made then
      call('ZADD', due, when, id)
      earliest = math.min(earliest or when, when)
    end
    return made, old
  end

  -- A body is sent with a time to live. Keep it if this call, or an earlier try of it, added the
  -- job.
  local function keep_or_drop(body, made, old)
    local ours = old and (sub(old, 1, 1) == 'q' or sub(old, 1, 1) == 'd') and sub(old, NONCE, NONCE_END) == nonce
    call((made or ours) and 'PERSIST' or 'UNLINK', body)
  end

  for n = run.first, run.last, 2 do
    local id, envelope = ARGV[n], ARGV[n + 1]
    local holder, made = run.unique and holder_of(base, due, running, job_prefix, run.unique, id), nil
    -- An earlier try of this call may have added the job. Then it has ended since, and another job
    -- has its identity.
    local old = holder and ask('GETRANGE', job_prefix .. id, 0, NONCE_END - 1)
    if holder and not (old and sub(old, NONCE) == nonce) then
      out[#out + 1] = run.seen + (n - run.first) / 2
      out[#out + 1] = holder
    elseif not holder then
      if run.when > now then
        made, old = schedule(run.lane, id, run.head .. envelope, run.when)
      else
        made, old = queue(run.lane, id, run.head .. id, envelope)
      end
      if made and run.unique then call('SET', run.unique, id) end
    end
    if run.body then keep_or_drop(run.body, made, old) end
  end
end

-- Read all groups, and make every check that can fail, before the first write.
local i, seen, runs, streams, with_options = FIRST_RUN, 0, {}, {}, false
while i <= #ARGV do
  local spec, count = ARGV[i], ARGV[i + 1]
  local run = { lane = lanes[spec], first = i + 2, last = i + 2 * count, seen = seen, is_new = true }
  if not run.lane then
    with_options, run.is_new = true, false
    local index, delay, at, unique, body = string.match(spec, '^(%d+) (%d+) (%d+) (%S+) (.+)$')
    run.lane, run.when = lanes[index], tonumber(at)
    run.unique = unique ~= '-' and unique_prefix .. unique or nil
    if run.when == 0 and delay ~= '0' then run.when = now + tonumber(delay) end
    run.body, run.head = body ~= '-' and body or nil, body ~= '-' and header_with_separate_body or header
    if run.body and call('EXISTS', body) == 0 then return redis.error_reply('GONE the body that was sent ahead') end
  end
  runs[#runs + 1], streams[#streams + 1] = run, run.lane.key
  seen, i = seen + count, run.last + 2
end
need(streams[1], 'XDEL')
need(job_prefix .. ARGV[runs[1].first], 'MSETNX', 'SET')
if with_options then
  _, is_alive, holder_of = presence()
  need(due, 'ZADD', 'ZRANGE', 'ZSCORE', 'GET', 'GETRANGE', 'XRANGE', 'XPENDING', 'HGET', 'PERSIST', 'UNLINK')
  expect('zset', due)
end
if #runs > 1 or with_options then
  for _, stream in ipairs(streams) do
    expect('stream', stream)
    need(stream, 'XADD', 'XDEL')
  end
end

-- Register the lanes in every call, because the server may have been emptied since the last one.
call('SADD', known_lanes, unpack(lane_names))
for _, run in ipairs(runs) do
  if run.is_new then queue_new(run.lane, run.first, run.last) else accept(run) end
end
if earliest then
  local _, announce_due, refused = tell()
  announce_due(due, wake, earliest)
  if refused() then out[2] = 1 end
end
return out
