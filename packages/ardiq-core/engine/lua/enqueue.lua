-- enqueue: accept jobs, each into its lane or into the due set.
--
-- KEYS  due, lanes, running, lane streams lowest first
-- ARGV  base, job prefix, unique prefix, wake channel, prefix of a lane's stream, nonce of the call,
--       then runs of jobs that are alike: spec, number of jobs, and per job: id, envelope
--       spec is the lane's index (counted from 0) for jobs with ids that were made for this very call, else
--       "<lane> <delay ms> <due ms> <unique digest or -> <key of the body or ->"; only one job has a given body
-- out   now, 1 if this user may not publish (else 0), then pairs (position from 0, id of the unfinished job that holds the
--       unique identity)
-- A job whose id is taken by an unfinished job is left as it is; one that an earlier try of this call made (same nonce) counts
-- as made. When the call fails, nothing of it is done. The error GONE says that a body that was sent ahead is not there (any
-- more): the call is to be made again, body and all.
local base, job_prefix, unique_prefix, wake = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local due, running = KEYS[1], KEYS[3]
local _, is_alive, holder_of
local header, header_apart = struct.pack('>HBBBI8', 0, 0, 0, 0, now), struct.pack('>HBBBI8', 0, 0, 0, APART, now)
local queued, out, places, lanes, earliest = 'q' .. ARGV[6], { now, 0 }, {}, {}, nil
for i = 4, #KEYS do
  places[tostring(i - 4)] = { key = KEYS[i], suffix = ' ' .. sub(KEYS[i], #base + 1) }
  lanes[#lanes + 1] = sub(KEYS[i], #base + #ARGV[5] + 1)
end

-- May a record be overwritten? Not that of an unfinished job, nor one that an earlier try of this call wrote.
local function is_free(id, old, record)
  local kind = sub(old, 1, 1)
  if #old < 9 then return true end
  if kind == 'R' or kind == 'T' then return sub(old, 2, 9) ~= sub(record, 2, 9) end
  if not is_alive then _, is_alive, holder_of = presence() end
  if kind ~= 'q' and kind ~= 'd' or is_alive(base, due, running, id, old) then return false end
  -- Of a job that was in the due set only the time is forgotten: it is due now.
  if kind == 'd' then redis.pcall('ZADD', due, now, id) end
  return kind == 'q'
end

-- Write the record unless an unfinished job, or this very job finished already, has it. False with the old record if so.
local function claim(id, record)
  local job_key = job_prefix .. id
  local old = ask('SET', job_key, record, 'NX', 'GET')
  if old == false then return true end
  -- What is no string is nobody's record.
  if old == nil or is_free(id, old, record) then
    call('SET', job_key, record)
    return true
  end
  return false, old
end

-- New jobs with new ids: all records at one go. An earlier try of this call may have written them; then one by one.
local function queue_new(place, first, last)
  local records, entries, n = {}, {}, 0
  for i = first, last, 2 do
    n = n + 1
    entries[n] = call('XADD', place.key, '*', header .. ARGV[i], ARGV[i + 1])
    records[2 * n - 1], records[2 * n] = job_prefix .. ARGV[i], queued .. entries[n] .. place.suffix
  end
  if call('MSETNX', unpack(records)) == 1 then return end
  for k = 1, n do
    if not claim(ARGV[first + 2 * k - 2], records[2 * k]) then call('XDEL', place.key, entries[k]) end
  end
end

-- Jobs with options; all of a run have the same ones.
local function accept(run)
  local function queue(place, id, label, envelope)
    local entry = call('XADD', place.key, '*', label, envelope)
    local made, old = claim(id, queued .. entry .. place.suffix)
    if not made then call('XDEL', place.key, entry) end
    return made, old
  end

  local function schedule(place, id, value, when)
    local stream = sub(place.suffix, 2)
    local made, old = claim(id, 'd' .. ARGV[6] .. string.char(#stream) .. stream .. value)
    if made then
      call('ZADD', due, when, id)
      earliest = math.min(earliest or when, when)
    end
    return made, old
  end

  -- A body was sent with a time to live. It is kept if the job, or an earlier try's, is there to use it.
  local function keep_or_drop(body, made, old)
    local ours = old and (sub(old, 1, 1) == 'q' or sub(old, 1, 1) == 'd') and sub(old, 2, 9) == ARGV[6]
    call((made or ours) and 'PERSIST' or 'UNLINK', body)
  end

  for n = run.first, run.last, 2 do
    local id, envelope = ARGV[n], ARGV[n + 1]
    local holder, made, old = run.unique and holder_of(base, due, running, job_prefix, run.unique, id), nil, nil
    if holder then
      out[#out + 1] = run.seen + (n - run.first) / 2
      out[#out + 1] = holder
    else
      if run.when > now then
        made, old = schedule(run.place, id, run.head .. envelope, run.when)
      else
        made, old = queue(run.place, id, run.head .. id, envelope)
      end
      if made and run.unique then call('SET', run.unique, id) end
    end
    if run.body then keep_or_drop(run.body, made, old) end
  end
end

-- First all runs are read, and with them whatever could fail.
local i, seen, runs, streams, with_options = 7, 0, {}, {}, false
while i <= #ARGV do
  local spec, count = ARGV[i], ARGV[i + 1]
  local run = { place = places[spec], first = i + 2, last = i + 2 * count, seen = seen, is_new = true }
  if not run.place then
    with_options, run.is_new = true, false
    local lane, delay, at, unique, body = string.match(spec, '^(%d+) (%d+) (%d+) (%S+) (.+)$')
    run.place, run.when = places[lane], tonumber(at)
    run.unique = unique ~= '-' and unique_prefix .. unique or nil
    if run.when == 0 and delay ~= '0' then run.when = now + tonumber(delay) end
    run.body, run.head = body ~= '-' and body or nil, body ~= '-' and header_apart or header
    if run.body and call('EXISTS', body) == 0 then return redis.error_reply('GONE the body that was sent ahead') end
  end
  runs[#runs + 1], streams[#streams + 1] = run, run.place.key
  seen, i = seen + count, run.last + 2
end
need(streams[1], 'XDEL')
need(job_prefix .. ARGV[9], 'MSETNX', 'SET')
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

-- Once a call, since a server may have been emptied since the last: jobs must not be in lanes that nobody knows of.
call('SADD', KEYS[2], unpack(lanes))
for _, run in ipairs(runs) do
  if run.is_new then queue_new(run.place, run.first, run.last) else accept(run) end
end
if earliest then
  local _, announce_due, refused = tell()
  announce_due(due, wake, earliest)
  if refused() then out[2] = 1 end
end
return out
