-- Included in scripts that check leases. Time during which the server was unavailable does not
-- count against any lease.
--
-- `pulse` holds the time of the last call to such a script by any worker. A long silence has one of
-- two causes. Either no worker was running, or the server was unavailable: it was stopped, frozen
-- or unreachable, or its clock was moved. The caller passes the time at which this call should have
-- arrived, computed from its previous call. If the call arrives late by the length of the silence,
-- the server was unavailable. A caller that has just started has no previous call. It passes 0 if
-- it had to wait for the server, and otherwise the server's uptime in ms as a negative number.
local AWAY_MS, LONGEST_TRUCE_MS, NEWCOMERS_TRUCE_MS, LONGEST_LEASE_MS = 500, 10000, 3000, 86400000
-- The extra time that a lease has had since its last renewal is the fraction of its score, in steps
-- of 100 ms.
local TRUCE_STEP_MS, TRUCE_STEPS = 100, 128

local function time_away(pulse, expected)
  local silence = now - pulse
  if expected > 0 then return math.max(math.min(0, silence), math.min(math.max(0, silence), now - expected)) end
  if silence > 0 and expected < 0 and -expected >= silence then return 0 end
  return silence
end

-- Move every lease that was valid at the last pulse by the time during which the server was
-- unavailable. Each also gets extra time, so that its worker can reconnect and renew it. The extra
-- time grows with the outage. A caller that has just started cannot tell whether the other workers
-- died or were cut off from the server, so they get a short extra time as well. A lease that is not
-- renewed gets no more than the longest extra time in all. Otherwise, a server or a link that
-- stalls again and again would keep a dead worker's lease valid forever.
local function keep_time(pulse_key, workers, expected)
  expected = tonumber(expected)
  local pulse = tonumber(string.match(ask('GET', pulse_key) or '', '^%d+$'))
  call('SET', pulse_key, string.format('%.0f', now))
  local silence = pulse and now - pulse or 0
  local away = pulse and time_away(pulse, expected) or 0
  local is_newcomer = expected <= 0
  if math.abs(is_newcomer and silence or away) < AWAY_MS then return end
  local soonest = away > 0 and now + math.min(4 * away, LONGEST_TRUCE_MS) or is_newcomer and now + NEWCOMERS_TRUCE_MS or 0
  local leases = call('ZRANGEBYSCORE', workers, math.max(math.min(pulse, now), 1), '+inf', 'WITHSCORES')
  for n = 1, #leases, 2 do
    local lease = tonumber(leases[n + 1])
    local steps = lease < math.huge and (lease % 1) * TRUCE_STEPS or 0
    lease = math.floor(lease)
    -- Without an absence, the extra time is at most the silence. Otherwise, workers that crash one
    -- after another would keep the first one's lease valid forever.
    local truce = away == 0 and math.min(lease + silence, soonest) or soonest
    lease = math.min(lease + away, now + LONGEST_LEASE_MS)
    local left, from = LONGEST_TRUCE_MS - steps * TRUCE_STEP_MS, math.max(lease, now)
    if left > 0 and truce > from then
      lease = math.min(truce, from + left)
      steps = steps + math.ceil((lease - from) / TRUCE_STEP_MS)
    end
    call('ZADD', workers, 'XX', string.format('%.7f', lease + steps / TRUCE_STEPS), leases[n])
  end
end

-- A call that arrives after the last worker has signed off leaves no pulse behind.
local function drop_pulse(pulse_key, workers)
  if redis.pcall('EXISTS', workers) == 0 then redis.pcall('DEL', pulse_key) end
end

