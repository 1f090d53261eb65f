-- reclaim: take over the work of one dead worker and make it available again, a limited number of
-- jobs per call.
--
-- KEYS  workers, worker info, running, pulse, lanes, waiters, aborting, linked, releasing, due,
--       then pairs (returned stream, lane stream) that the caller serves
-- ARGV  base, job prefix, unique prefix, body prefix, prefix of survivals, prefix of notes, group,
--       calling worker, maximum number of jobs, "1" to look also for consumers that never signed
--       on, time at which this call was expected in ms (see leases.lua), prefixes of the two kinds
--       of stream (returned, lane), names of links, then pairs (worker, lease) that an earlier call
--       returned as expired
-- out   now, dead worker ("" when there is none), jobs taken over, how many of these had started, 1
--       when none of its work is left, ids of some that had started, 1 if jobs are to be aborted
--       (else 0), 1 if jobs depend on others (else 0), then pairs (worker, lease) whose lease has
--       expired
-- A worker is declared dead when two calls find the same lease expired. A renewal that was delayed
-- on its way to the server can arrive in between. The dead worker gets the score -1, so that it
-- cannot renew while its work is being moved. Only a worker whose own lease is valid may take over:
-- a worker that was cut off knows nothing about the others. The dead worker may have served lanes
-- that the caller does not serve, so its work is taken over from all lanes of the queue. A worker
-- that signed off and left work behind (score 0, then -2) did not die: its runs do not count as
-- attempts. A job that is marked in `aborting` ends as aborted.
local workers, info, running, pulse, known_lanes, waiters, aborting, linked, releasing, due = unpack(KEYS, 1, 10)
local FIRST_STREAM = 11
local base, job_prefix, unique_prefix, body_prefix, survivals_prefix, notes_prefix = unpack(ARGV, 1, 6)
local group, asker = ARGV[7], ARGV[8]
local left, sweep, expected = tonumber(ARGV[9]), ARGV[10] == '1', ARGV[11]
local returned_prefix, lane_prefix, links = ARGV[12], ARGV[13], ARGV[14]
local FIRST_SEEN = 15
local MOST_SUSPECTS, MOST_NAMED = 100, 10
expect('zset', workers)
need(workers, 'ZADD', 'ZRANGEBYSCORE', 'GET', 'SET')
keep_time(pulse, workers, expected)
local has_marks = redis.pcall('EXISTS', aborting) == 1 and 1 or 0
local has_links = redis.pcall('EXISTS', linked, releasing) == 0 and 0 or 1
-- The jobs of a large graph that is not complete wait, too.
local last = has_links == 0 and ask('ZRANGE', due, -1, -1, 'WITHSCORES')
if last and last[2] == NOT_YET then has_links = 1 end
local own = call('ZSCORE', workers, asker)
if not own or tonumber(own) < now then
  drop_pulse(pulse, workers)
  return { now, '', 0, 0, 1, {}, has_marks, has_links }
end

local seen, victim, signed_off, out = {}, nil, false, { now, '', 0, 0, 1, {}, has_marks, has_links }
for n = FIRST_SEEN, #ARGV, 2 do seen[ARGV[n]] = ARGV[n + 1] end
local expired = call('ZRANGEBYSCORE', workers, '-inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, MOST_SUSPECTS)
for n = 1, #expired, 2 do
  local worker, lease = expired[n], expired[n + 1]
  if tonumber(lease) <= 0 or seen[worker] == lease then
    if not victim then victim, signed_off = worker, lease == '0' or lease == '-2' end
  else
    out[#out + 1] = worker
    out[#out + 1] = lease
  end
end
if not victim and sweep then
  for i = FIRST_STREAM, #KEYS do
    local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[i], group)
    for _, consumer in ipairs(consumers.err and {} or consumers) do
      -- Later calls treat it like any other worker. If its lease was deleted by hand, it may still
      -- be alive, and gets the time to renew it.
      local was_deleted = redis.pcall('HEXISTS', info, consumer[2]) == 1
      call('ZADD', workers, 'NX', was_deleted and now + RENEWAL_MS or now, consumer[2])
    end
  end
end
if not victim then return out end
local some_stream = KEYS[FIRST_STREAM]
expect('hash', info, running, waiters, aborting, linked, releasing)
expect('stream', unpack(KEYS, FIRST_STREAM))
need(workers, 'ZREM', 'HGET', 'HEXISTS', 'HLEN', 'HGETALL', 'HINCRBY', 'HSET', 'HDEL', 'SET', 'DEL', 'UNLINK', 'SCARD')
need(some_stream, 'XRANGE', 'XADD', 'XPENDING', 'XACK', 'XDEL')
if not may('XGROUP', 'DELCONSUMER', some_stream, group, victim) then
  error({ err = "NOPERM this user has no permissions to run the 'xgroup|delconsumer' command" })
end

local streams, served = { unpack(KEYS, FIRST_STREAM) }, {}
for _, stream in ipairs(streams) do served[stream] = true end
local function is_whole(key)
  local kind = call('TYPE', key).ok
  return kind == 'stream' or kind == 'none'
end
for _, lane in ipairs(ask('SMEMBERS', known_lanes) or {}) do
  local returned, own = base .. returned_prefix .. lane, base .. lane_prefix .. lane
  -- A worker that serves the lane sets aside a key of the wrong type.
  if not served[own] and is_whole(returned) and is_whole(own) then
    streams[#streams + 1] = returned
    streams[#streams + 1] = own
  end
end
call('ZADD', workers, signed_off and -2 or -1, victim)
out[2] = victim

local taken, started = 0, 0
local finish = endings(running, job_prefix, unique_prefix, body_prefix, notes_prefix)
local is_marked, abort = marks(aborting, linked, releasing, base, links, finish)
local notify = tell()

local function take_over(s, entry)
  local found = call('XRANGE', streams[s], entry, entry)
  if not found[1] then return end
  local label, envelope = found[1][2][1], found[1][2][2]
  local returned = streams[s % 2 == 1 and s or s - 1]
  if #label < HEADER then
    -- Other software wrote this entry. The worker that gets it next moves it to the dead letters.
    call('XADD', returned, '*', label, envelope)
    return
  end
  local id = sub(label, HEADER + 1)
  local job_key = job_prefix .. id
  local run = call('HGET', running, id)
  local had_begun = run and sub(run, 1, #entry + 1) == entry .. ' '
  if had_begun then call('HDEL', running, id) end
  if is_elsewhere(ask('GET', job_key), entry, sub(streams[s], #base + 1)) then return end
  local low, deaths, misses, flags, high, enqueued = struct.unpack(HEADER_FORMAT, label)
  local tries = high * 65536 + low
  if had_begun then
    started = started + 1
    if #out[6] < MOST_NAMED then out[6][#out[6] + 1] = id end
  end
  if had_begun and not signed_off then
    -- Earlier takeovers from workers that turned out to be alive were no deaths.
    local survivals = key_of_run(survivals_prefix, id, envelope)
    local survived = ask('SCARD', survivals) or 0
    if survived > 0 then
      deaths = math.max(0, deaths - survived)
      call('DEL', survivals)
    end
    local mode = string.match(run, ' (%a)$')
    -- The run had been cleared of suspicion, so its deaths are counted from 1 again.
    tries, deaths = math.min(tries + 1, 4294967295), mode == 'c' and 1 or math.min(deaths + 1, 255)
    flags = flags - flags % (2 * ALONE) + flags % ALONE + (mode == 'a' and ALONE or 0)
  end
  if flags % 2 == 0 and not signed_off then flags = flags + SUSPECT end
  flags = with_notes(flags, key_of_run(notes_prefix, id, envelope))
  local header = struct.pack(HEADER_FORMAT, tries % 65536, deaths, misses, flags, math.floor(tries / 65536), enqueued)
  if is_marked(id, envelope) then
    notify(waiters, id, abort(id, header, envelope, had_begun and run))
    return
  end
  add_to_stream(base, returned, job_key, header .. id, envelope)
  taken = taken + 1
end

for s = 1, #streams do
  if left <= 0 then break end
  local pending = redis.pcall('XPENDING', streams[s], group, '-', '+', left, victim)
  if not pending.err and #pending > 0 then
    local entries = {}
    for n, item in ipairs(pending) do
      entries[n] = item[1]
      take_over(s, item[1])
    end
    call('XACK', streams[s], group, unpack(entries))
    call('XDEL', streams[s], unpack(entries))
    left = left - #entries
  end
end
out[3], out[4] = taken, started
if left <= 0 then
  out[5] = 0
  return out
end
for _, stream in ipairs(streams) do redis.pcall('XGROUP', 'DELCONSUMER', stream, group, victim) end
call('ZREM', workers, victim)
call('HDEL', info, victim)
return out
