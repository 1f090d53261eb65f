-- enqueue: accept jobs, each into its lane or into the due set.
--
-- KEYS  due, lanes, lane streams lowest first
-- ARGV  base, job prefix, unique prefix, wake channel, prefix of a lane's stream, nonce of the call,
--       then runs of jobs that are alike: spec, number of jobs, and per job: id, envelope
--       spec is the lane's index (counted from 0), or "<lane> <delay ms> <due ms> <unique digest or ->"
-- out   now, then pairs (position from 0, id of the unfinished job that holds the unique identity)
-- A job whose id is taken by an unfinished job is left as it is; one that an earlier try of this call made (same nonce) counts as made.
local base, job_prefix, unique_prefix, wake = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local header = struct.pack('>HBBBI8', 0, 0, 0, 0, now)
local queued, out, places, lanes, earliest = 'q' .. ARGV[6], { now }, {}, {}, nil
for i = 3, #KEYS do
  places[tostring(i - 3)] = { key = KEYS[i], suffix = ' ' .. sub(KEYS[i], #base + 1) }
  lanes[#lanes + 1] = sub(KEYS[i], #base + #ARGV[5] + 1)
end

-- Write the record unless an unfinished job, or this very job finished already, has it.
local function claim(job_key, record)
  local old = call('SET', job_key, record, 'NX', 'GET')
  if not old then return true end
  local kind = sub(old, 1, 1)
  if (kind == 'R' or kind == 'T') and sub(old, 2, 9) ~= sub(record, 2, 9) then
    call('SET', job_key, record)
    return true
  end
  return false
end

-- Once a call, since a server may have been emptied since the last: jobs must not be in lanes that nobody knows of.
call('SADD', KEYS[2], unpack(lanes))

local function queue(place, id, envelope)
  local entry = call('XADD', place.key, '*', id, header .. envelope)
  if claim(job_prefix .. id, queued .. entry .. place.suffix) then return true end
  call('XDEL', place.key, entry)
  return false
end

local function schedule(place, id, envelope, when)
  local stream = sub(place.suffix, 2)
  if not claim(job_prefix .. id, 'd' .. ARGV[6] .. string.char(#stream) .. stream .. header .. envelope) then return false end
  call('ZADD', KEYS[1], when, id)
  earliest = math.min(earliest or when, when)
  return true
end

local i, seen = 7, 0
while i <= #ARGV do
  local spec, last = ARGV[i], i + 2 * ARGV[i + 1]
  local place = places[spec]
  if place then
    for n = i + 2, last, 2 do queue(place, ARGV[n], ARGV[n + 1]) end
  else
    local lane, delay, at, unique = string.match(spec, '^(%d+) (%d+) (%d+) (%S+)$')
    local when, unique_key = tonumber(at), unique ~= '-' and unique_prefix .. unique or nil
    if when == 0 and delay ~= '0' then when = now + tonumber(delay) end
    place = places[lane]
    for n = i + 2, last, 2 do
      local id, envelope = ARGV[n], ARGV[n + 1]
      local holder = unique_key and holder_of(job_prefix, unique_key, id)
      if holder then
        out[#out + 1] = seen + (n - i - 2) / 2
        out[#out + 1] = holder
      else
        local made
        if when > now then made = schedule(place, id, envelope, when) else made = queue(place, id, envelope) end
        if made and unique_key then call('SET', unique_key, id) end
      end
    end
  end
  seen = seen + ARGV[i + 1]
  i = last + 2
end
if earliest then announce_due(KEYS[1], wake, earliest) end
return out
