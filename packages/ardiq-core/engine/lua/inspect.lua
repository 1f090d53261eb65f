-- inspect: summarize a queue for people.
--
-- KEYS  due, running, dead, workers, worker info, lanes
-- ARGV  base, group, prefixes of the two kinds of stream (returned, lane)
-- out   now, scheduled, running, dead, workers as (name, lease deadline, info), lanes as (name, entries, delivered)
-- A key of the wrong type counts as empty.
local workers, lanes = {}, {}
local leases = ask('ZRANGE', KEYS[4], 0, 999, 'WITHSCORES') or {}
for n = 1, #leases, 2 do
  workers[#workers + 1] = { leases[n], leases[n + 1], ask('HGET', KEYS[5], leases[n]) or '' }
end
for _, lane in ipairs(ask('SMEMBERS', KEYS[6]) or {}) do
  local entries, delivered = 0, 0
  for i = 3, #ARGV do
    local stream = ARGV[1] .. ARGV[i] .. lane
    entries = entries + (ask('XLEN', stream) or 0)
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    for _, group in ipairs(groups.err and {} or groups) do
      if group[2] == ARGV[2] then delivered = delivered + group[6] end
    end
  end
  lanes[#lanes + 1] = { lane, entries, delivered }
end
return {
  now, ask('ZCARD', KEYS[1]) or 0, ask('HLEN', KEYS[2]) or 0, ask('XLEN', KEYS[3]) or 0, workers, lanes,
}
