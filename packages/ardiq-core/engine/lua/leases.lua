-- In front of the scripts that judge leases: time during which the server was away counts against nobody's lease.
--
-- `pulse` holds the time of the last call of such a script, whichever worker made it. A long silence means either that all
-- workers were gone, or that the server was: stopped, frozen, cut off, or its clock was moved. The caller tells these apart. It
-- passes the time at which this call should have arrived, reckoned from its last one; when the call came as much later as the
-- silence was long, the server was away. A caller that has just started has no last call: it passes 0 when it had to wait for
-- the server, else the server's uptime in ms as a negative number.
local AWAY_MS, LONGEST_TRUCE_MS = 500, 10000

local function time_away(pulse, expected)
  local silence = now - pulse
  if silence <= 0 then return silence end
  if expected < 0 then return -expected < silence and silence or 0 end
  return math.max(0, math.min(silence, now - expected))
end

-- Every lease that held at the last pulse is moved by the time away. It also gets some time to be renewed by a worker that has
-- to find its way back first, longer after a longer absence.
local function keep_time(pulse_key, workers, expected)
  local pulse = tonumber(ask('GET', pulse_key) or '')
  call('SET', pulse_key, string.format('%.0f', now))
  local away = pulse and time_away(pulse, tonumber(expected)) or 0
  if math.abs(away) < AWAY_MS then return end
  local leases = call('ZRANGEBYSCORE', workers, away > 0 and math.max(pulse, 1) or 1, '+inf', 'WITHSCORES')
  local soonest = away > 0 and now + math.min(4 * away, LONGEST_TRUCE_MS) or 0
  for n = 1, #leases, 2 do
    call('ZADD', workers, 'XX', string.format('%.0f', math.max(leases[n + 1] + away, soonest)), leases[n])
  end
end

