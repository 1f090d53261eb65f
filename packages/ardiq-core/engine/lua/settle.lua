-- settle: commit the outcomes of runs, each only for the delivery that still stands.
--
-- KEYS  due, running, waiters, dead, then pairs (returned stream, lane stream)
-- ARGV  base, job prefix, unique prefix, wake channel, group, default result TTL in ms,
--       then per stream: its position from 0 after the four, number of jobs, and per job (oldest entry first): entry id,
--       key of the job, spec, data
--       spec "" is a finished run with the default TTL, else
--       "<outcome> <number> <recorded start 0|1> <unique digest or -> <key of the body or ->":
--         D  finished; number = TTL in ms, 0 not stored, negative for ever; data = result record
--         X  finished and dead-lettered; likewise
--         R  again later; number = delay in ms; data = new header
--         H  handed back, to be delivered before new work; data = header
-- out   positions (from 0, over all jobs) whose delivery no longer stood: nothing was changed for them
local base, job_prefix, unique_prefix, wake, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
-- As it came: a number would be printed anew for every job.
local default_ttl = ARGV[6]
local stored_for_a_while = tonumber(default_ttl) > 0
local refused, finished, started, earliest, seen = {}, {}, {}, nil, 0
-- Most of the time nobody waits.
local awaited = call('EXISTS', KEYS[3]) == 1
-- Beyond this many bytes a message would take the subscriber's connection down with it (the server limits what piles up for
-- one): callers are told to read the result, provided that it is kept long enough for that.
local LARGEST_MESSAGE, READABLE_MS = 65536, 10000

local function store(job_key, record, ttl)
  if ttl > 0 then
    call('SET', job_key, record, 'PX', ttl)
  elseif ttl < 0 then
    call('SET', job_key, record)
  else
    call('SET', job_key, 'T' .. sub(record, 2, 9), 'PX', TOMBSTONE_MS)
  end
end

local function id_of(job_key) return sub(job_key, #job_prefix + 1) end

local function finish(job_key, record, ttl)
  store(job_key, record, ttl)
  if awaited then
    finished[#finished + 1] = id_of(job_key)
    finished[#finished + 1] = #record > LARGEST_MESSAGE and (ttl < 0 or ttl >= READABLE_MS) and '' or record
  end
end

-- A job that cannot be run anywhere, whole: with its body, should that be kept apart.
local function bury(id, record, fields, body)
  local letter = { 'id', id, 'record', record, 'value', fields and sub(fields[1], 1, HEADER) .. fields[2] or '' }
  local apart = body ~= '-' and call('GET', body)
  if apart then letter[7], letter[8] = 'body', apart end
  call('XADD', KEYS[4], 'MAXLEN', '~', 100000, '*', unpack(letter))
end

-- Run again: at once, after a delay, or ahead of new work.
local function put_back(s, job_key, id, outcome, delay, header, envelope)
  local lane = s % 2 == 1 and s + 1 or s
  if outcome == 'H' then
    place(base, KEYS[lane - 1], job_key, header .. id, envelope)
  elseif delay > 0 then
    local suffix = sub(KEYS[lane], #base + 1)
    call('SET', job_key, 'd' .. nonce_of(envelope) .. string.char(#suffix) .. suffix .. header .. envelope)
    call('ZADD', KEYS[1], now + delay, id)
    earliest = math.min(earliest or now + delay, now + delay)
  else
    place(base, KEYS[lane], job_key, header .. id, envelope)
  end
end

-- One branch per outcome other than the common one; false when there is nothing left that could be run again.
local function settle(s, entry, job_key, spec, data)
  local outcome, number, recorded, unique, body = string.match(spec, '^(%u) (%-?%d+) (%d) (%S+) (.+)$')
  local id, found = id_of(job_key), outcome ~= 'D' and call('XRANGE', KEYS[s], entry, entry)[1]
  number = tonumber(number)
  if outcome == 'R' or outcome == 'H' then
    if not found then
      -- Somebody deleted the entry: the id must not stay taken.
      call('SET', job_key, 'T' .. sub(call('GET', job_key) or '', 2, 9), 'PX', TOMBSTONE_MS)
      if body ~= '-' then call('UNLINK', body) end
      return false
    end
    put_back(s, job_key, id, outcome, number, data, found[2][2])
  else
    if outcome == 'X' then bury(id, data, found and found[2], body) end
    finish(job_key, data, number)
    if unique ~= '-' and call('GET', unique_prefix .. unique) == id then call('DEL', unique_prefix .. unique) end
    if body ~= '-' then call('UNLINK', body) end
  end
  if recorded == '1' then started[#started + 1] = id end
  return true
end

local function older(a, b)
  local a_ms, a_number = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_number = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_number) < tonumber(b_number)
end

-- Delete settled entries that the group had delivered. It delivers in order, so whatever is older than the oldest entry that
-- is still pending was settled: it goes at one cut, for which the server drops whole nodes instead of searching each entry.
local function delete(stream, entries)
  local pending, count = call('XPENDING', stream, group)[2], #entries
  local low, high = 0, pending and count or count - 1
  if pending and not older(entries[count], pending) then
    while low < high do
      local middle = math.ceil((low + high) / 2)
      if older(entries[middle], pending) then low = middle else high = middle - 1 end
    end
  end
  if high > 0 then call('XTRIM', stream, 'MINID', pending or entries[count]) end
  if high < count then call('XDEL', stream, unpack(entries, high + 1)) end
end

local i = 7
while i <= #ARGV do
  local s, count = ARGV[i] + 5, tonumber(ARGV[i + 1])
  local stream, entries = KEYS[s], {}
  i = i + 2
  for n = 1, count do entries[n] = ARGV[i + (n - 1) * 4] end
  local all_held = call('XACK', stream, group, unpack(entries)) == count
  for n = 1, count do
    local entry, job_key, spec, data = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    i = i + 4
    if not all_held and not is_at(call('GET', job_key), entry) then
      refused[#refused + 1] = seen
    elseif spec == '' and stored_for_a_while and not awaited then
      call('PSETEX', job_key, default_ttl, data)
    elseif spec == '' then
      finish(job_key, data, tonumber(default_ttl))
    elseif not settle(s, entry, job_key, spec, data) then
      refused[#refused + 1] = seen
    end
    seen = seen + 1
  end
  if all_held then delete(stream, entries) else call('XDEL', stream, unpack(entries)) end
end

if #started > 0 then call('HDEL', KEYS[2], unpack(started)) end
if earliest then announce_due(KEYS[1], wake, earliest) end
for n = 1, #finished, 2 do
  local waiting = call('HGET', KEYS[3], finished[n])
  if waiting then
    local message = struct.pack('>H', #finished[n]) .. finished[n] .. finished[n + 1]
    for channel in string.gmatch(waiting, '(%S+) %d+\n') do call('PUBLISH', channel, message) end
    call('HDEL', KEYS[3], finished[n])
  end
end
return refused
