-- In front of the scripts that judge leases: time during which the server was away counts against nobody's lease.
--
-- `pulse` holds the time of the last call of such a script, whichever worker made it. A long silence means either that all
-- workers were gone, or that the server was: stopped, frozen, cut off, or its clock was moved. The caller tells these apart. It
-- passes the time at which this call should have arrived, reckoned from its last one; when the call came as much later as the
-- silence was long, the server was away. A caller that has just started has no last call: it passes 0 when it had to wait for
-- the server, else the server's uptime in ms as a negative number.
local AWAY_MS, LONGEST_TRUCE_MS, NEWCOMERS_TRUCE_MS, LONGEST_LEASE_MS = 500, 10000, 3000, 86400000

local function time_away(pulse, expected)
  local silence = now - pulse
  if expected > 0 then return math.max(math.min(0, silence), math.min(math.max(0, silence), now - expected)) end
  if silence > 0 and expected < 0 and -expected >= silence then return 0 end
  return silence
end

-- Every lease that held at the last pulse is moved by the time away. It also gets some time to be renewed by a worker that has
-- to find its way back first, longer after a longer absence. A caller that has just started cannot tell whether all others were
-- gone or were cut off from the server, so then they have a short time as well.
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
    -- With nobody away, a lease never ends later than it would have without the silence: workers that die one after the other
    -- do not keep the jobs of the first.
    local truce = away == 0 and math.min(lease + silence, soonest) or soonest
    lease = math.max(math.min(lease + away, now + LONGEST_LEASE_MS), truce)
    call('ZADD', workers, 'XX', string.format('%.0f', lease), leases[n])
  end
end
