-- enqueue: accept jobs, each into its lane or into the due set.
--
-- KEYS  due, lanes, lane streams lowest first
-- ARGV  base, job prefix, unique prefix, wake channel, prefix of a lane's stream, then per job: id, spec, envelope
--       spec is the lane's index (counted from 0), or "<lane> <delay ms> <due ms> <unique digest or ->"
-- out   now, then pairs (position from 0, id of the unfinished job that holds the unique identity)
-- A job whose id is taken by an unfinished job is left as it is; one that an earlier try of this call made (same nonce) counts as made.
local base, job_prefix, unique_prefix, wake = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local header = struct.pack('>HBBBI8', 0, 0, 0, 0, now)
local out, places, lanes, earliest = { now }, {}, {}, nil
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
for i = 6, #ARGV, 3 do
  local id, spec, envelope = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local job_key, nonce = job_prefix .. id, sub(envelope, 2, 9)
  local place = places[spec]
  if place then
    local entry = call('XADD', place.key, '*', id, header .. envelope)
    if not claim(job_key, 'q' .. nonce .. entry .. place.suffix) then call('XDEL', place.key, entry) end
  else
    local lane, delay, at, unique = string.match(spec, '^(%d+) (%d+) (%d+) (%S+)$')
    place = places[lane]
    local unique_key = unique ~= '-' and unique_prefix .. unique or nil
    local holder = unique_key and holder_of(job_prefix, unique_key, id)
    if holder then
      out[#out + 1] = (i - 6) / 3
      out[#out + 1] = holder
    else
      local when = tonumber(at)
      if when == 0 and delay ~= '0' then when = now + tonumber(delay) end
      local claimed
      if when > now then
        local stream = sub(place.suffix, 2)
        claimed = claim(job_key, 'd' .. nonce .. string.char(#stream) .. stream .. header .. envelope)
        if claimed then
          call('ZADD', KEYS[1], when, id)
          earliest = math.min(earliest or when, when)
        end
      else
        local entry = call('XADD', place.key, '*', id, header .. envelope)
        claimed = claim(job_key, 'q' .. nonce .. entry .. place.suffix)
        if not claimed then call('XDEL', place.key, entry) end
      end
      if claimed and unique_key then call('SET', unique_key, id) end
    end
  end
end
if earliest then announce_due(KEYS[1], wake, earliest) end
return out
