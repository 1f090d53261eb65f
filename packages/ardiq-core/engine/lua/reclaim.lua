-- reclaim: take the work of one dead worker and make it available again, a bounded number of jobs a call.
--
-- KEYS  workers, worker info, running, then pairs (returned stream, lane stream)
-- ARGV  base, job prefix, group, worker that asks, most jobs, "1" to look also for consumers that never signed on
-- out   now, dead worker ("" when there is none), jobs taken over, of these started, 1 when nothing of it is left
-- A worker taken for dead gets the score -1 first, so that it cannot renew while its work is being moved.
local base, job_prefix, group, asker = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local victim

for _, worker in ipairs(call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'LIMIT', 0, 2)) do
  if worker ~= asker then victim = worker break end
end
if not victim and ARGV[6] == '1' then
  for s = 4, #KEYS do
    local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[s], group)
    for _, consumer in ipairs(consumers.err and {} or consumers) do
      local name = consumer[2]
      if name ~= asker and not call('ZSCORE', KEYS[1], name) then victim = name break end
    end
    if victim then break end
  end
end
if not victim then return { now, '', 0, 0, 1 } end
expect('hash', KEYS[2], KEYS[3])
expect('stream', unpack(KEYS, 4))
need(KEYS[1], 'ZADD', 'ZREM', 'HGET', 'HDEL', 'GET', 'SET')
need(KEYS[4], 'XRANGE', 'XADD', 'XPENDING', 'XACK', 'XDEL')
if not may('XGROUP', 'DELCONSUMER', KEYS[4], group, victim) then
  error({ err = "NOPERM this user has no permissions to run the 'xgroup|delconsumer' command" })
end
call('ZADD', KEYS[1], -1, victim)

local taken, started, left = 0, 0, tonumber(ARGV[5])

local function take_over(s, entry)
  local found = call('XRANGE', KEYS[s], entry, entry)
  if not found[1] then return end
  local label, envelope = found[1][2][1], found[1][2][2]
  local returned = s % 2 == 0 and s or s - 1
  if #label < HEADER then
    -- Somebody else wrote it. Whoever gets it next puts it among the dead letters.
    call('XADD', KEYS[returned], '*', label, envelope)
    return
  end
  local id = sub(label, HEADER + 1)
  local job_key = job_prefix .. id
  local run = call('HGET', KEYS[3], id)
  local had_begun = run and sub(run, 1, #entry + 1) == entry .. ' '
  if had_begun then call('HDEL', KEYS[3], id) end
  if not is_at(ask('GET', job_key), entry, sub(KEYS[s], #base + 1)) then return end
  local tries, deaths, misses, flags, enqueued = struct.unpack('>HBBBI8', label)
  if had_begun then tries, deaths, started = math.min(tries + 1, 65535), math.min(deaths + 1, 255), started + 1 end
  if flags % 2 == 0 then flags = flags + SUSPECT end
  place(base, KEYS[returned], job_key, struct.pack('>HBBBI8', tries, deaths, misses, flags, enqueued) .. id, envelope)
  taken = taken + 1
end

for s = 4, #KEYS do
  if left <= 0 then break end
  local pending = redis.pcall('XPENDING', KEYS[s], group, '-', '+', left, victim)
  if not pending.err and #pending > 0 then
    local entries = {}
    for n, item in ipairs(pending) do
      entries[n] = item[1]
      take_over(s, item[1])
    end
    call('XACK', KEYS[s], group, unpack(entries))
    call('XDEL', KEYS[s], unpack(entries))
    left = left - #entries
  end
end
if left <= 0 then return { now, victim, taken, started, 0 } end
for s = 4, #KEYS do redis.pcall('XGROUP', 'DELCONSUMER', KEYS[s], group, victim) end
call('ZREM', KEYS[1], victim)
call('HDEL', KEYS[2], victim)
return { now, victim, taken, started, 1 }
