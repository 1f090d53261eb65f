-- Included in scripts that check leases. Time during which the server was away does not count against any lease.
--
-- `pulse` holds the time of the last call to such a script by any worker. A long silence has one of two causes. Either
-- no worker was running, or the server was away: it was stopped, frozen or unreachable, or its clock was moved. The
-- caller passes the time at which this call should have arrived, computed from its previous call. If the call arrives
-- late by the length of the silence, the server was away. A caller that has just started has no previous call. It
-- passes 0 if it had to wait for the server, and otherwise the server's uptime in ms as a negative number.
local AWAY_MS, LONGEST_TRUCE_MS = 500, 10000

local function time_away(pulse, expected)
  local silence = now - pulse
  if silence <= 0 then return silence end
  if expected < 0 then return -expected < silence and silence or 0 end
  return math.max(0, math.min(silence, now - expected))
end

-- Move every lease that was valid at the last pulse by the time away. Each also gets extra time, so that its worker can
-- reconnect and renew it: the longer the absence, the more.
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

