-- enqueue: accept jobs, each into its lane or into the due set.
--
-- KEYS  due, lanes, lane streams lowest first
-- ARGV  base, job prefix, unique prefix, wake channel, prefix of a lane's stream, nonce of the call,
--       then runs of jobs that are alike: spec, number of jobs, and per job: id, envelope
--       spec is the lane's index (counted from 0) for jobs with ids that were made for this very call, else
--       "<lane> <delay ms> <due ms> <unique digest or -> <key of the body or ->"; only one job has a given body
-- out   now, then pairs (position from 0, id of the unfinished job that holds the unique identity)
-- A job whose id is taken by an unfinished job is left as it is; one that an earlier try of this call made (same nonce) counts as made.
-- The error GONE says that a body that was sent ahead is not there (any more): the call is to be made again, body and all.
local base, job_prefix, unique_prefix, wake = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local header, header_apart = struct.pack('>HBBBI8', 0, 0, 0, 0, now), struct.pack('>HBBBI8', 0, 0, 0, APART, now)
local queued, out, places, lanes, earliest = 'q' .. ARGV[6], { now }, {}, {}, nil
for i = 3, #KEYS do
  places[tostring(i - 3)] = { key = KEYS[i], suffix = ' ' .. sub(KEYS[i], #base + 1) }
  lanes[#lanes + 1] = sub(KEYS[i], #base + #ARGV[5] + 1)
end

-- Write the record unless an unfinished job, or this very job finished already, has it. False with the old record if so.
local function claim(job_key, record)
  local old = call('SET', job_key, record, 'NX', 'GET')
  if not old then return true end
  local kind = sub(old, 1, 1)
  if (kind == 'R' or kind == 'T') and sub(old, 2, 9) ~= sub(record, 2, 9) then
    call('SET', job_key, record)
    return true
  end
  return false, old
end

-- Once a call, since a server may have been emptied since the last: jobs must not be in lanes that nobody knows of.
call('SADD', KEYS[2], unpack(lanes))

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
    if not claim(records[2 * k - 1], records[2 * k]) then call('XDEL', place.key, entries[k]) end
  end
end

local function queue(place, id, label, envelope)
  local entry = call('XADD', place.key, '*', label, envelope)
  local made, old = claim(job_prefix .. id, queued .. entry .. place.suffix)
  if not made then call('XDEL', place.key, entry) end
  return made, old
end

local function schedule(place, id, value, when)
  local stream = sub(place.suffix, 2)
  local made, old = claim(job_prefix .. id, 'd' .. ARGV[6] .. string.char(#stream) .. stream .. value)
  if made then
    call('ZADD', KEYS[1], when, id)
    earliest = math.min(earliest or when, when)
  end
  return made, old
end

-- A body was sent with a time to live. It is kept if the job, or an earlier try's, is there to use it.
local function keep_or_drop(body, made, old)
  local ours = old and (sub(old, 1, 1) == 'q' or sub(old, 1, 1) == 'd') and sub(old, 2, 9) == ARGV[6]
  call((made or ours) and 'PERSIST' or 'UNLINK', body)
end

local i, seen = 7, 0
while i <= #ARGV do
  local spec, last = ARGV[i], i + 2 * ARGV[i + 1]
  local place = places[spec]
  if place then
    queue_new(place, i + 2, last)
  else
    local lane, delay, at, unique, body = string.match(spec, '^(%d+) (%d+) (%d+) (%S+) (.+)$')
    local when, unique_key = tonumber(at), unique ~= '-' and unique_prefix .. unique or nil
    if when == 0 and delay ~= '0' then when = now + tonumber(delay) end
    place = places[lane]
    local apart = body ~= '-'
    if apart and call('EXISTS', body) == 0 then return redis.error_reply('GONE the body that was sent ahead') end
    local head = apart and header_apart or header
    for n = i + 2, last, 2 do
      local id, envelope = ARGV[n], ARGV[n + 1]
      local holder, made, old = unique_key and holder_of(job_prefix, unique_key, id), nil, nil
      if holder then
        out[#out + 1] = seen + (n - i - 2) / 2
        out[#out + 1] = holder
      else
        if when > now then
          made, old = schedule(place, id, head .. envelope, when)
        else
          made, old = queue(place, id, head .. id, envelope)
        end
        if made and unique_key then call('SET', unique_key, id) end
      end
      if apart then keep_or_drop(body, made, old) end
    end
  end
  seen = seen + ARGV[i + 1]
  i = last + 2
end
if earliest then announce_due(KEYS[1], wake, earliest) end
return out
