-- inspect: summarize a queue for people.
--
-- KEYS  due, running, dead, workers, worker info, lanes
-- ARGV  base, group, prefixes of the two kinds of stream (returned, lane)
-- out   now, scheduled, running, dead, workers as (name, lease deadline, info), lanes as (name,
--       entries, delivered)
-- A key of the wrong type counts as empty.
local due, running, dead, workers, info, known_lanes = unpack(KEYS)
local base, group = ARGV[1], ARGV[2]
local FIRST_PREFIX = 3
local members, lanes = {}, {}
local leases = ask('ZRANGE', workers, 0, 999, 'WITHSCORES') or {}
for n = 1, #leases, 2 do
  members[#members + 1] = { leases[n], leases[n + 1], ask('HGET', info, leases[n]) or '' }
end
for _, lane in ipairs(ask('SMEMBERS', known_lanes) or {}) do
  local entries, delivered = 0, 0
  for i = FIRST_PREFIX, #ARGV do
    local stream = base .. ARGV[i] .. lane
    entries = entries + (ask('XLEN', stream) or 0)
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    for _, one in ipairs(groups.err and {} or groups) do
      if one[2] == group then delivered = delivered + one[6] end
    end
  end
  lanes[#lanes + 1] = { lane, entries, delivered }
end
return {
  now, ask('ZCARD', due) or 0, ask('HLEN', running) or 0, ask('XLEN', dead) or 0, members, lanes,
}
