-- depth: count the jobs that are waiting to start.
--
-- KEYS  due, running, lanes
-- ARGV  base, prefixes of the two kinds of stream
-- out   number of jobs that are queued or scheduled, but not running
local due, running, known_lanes = KEYS[1], KEYS[2], KEYS[3]
local base = ARGV[1]
local waiting = (ask('ZCARD', due) or 0) - (ask('HLEN', running) or 0)
for _, lane in ipairs(ask('SMEMBERS', known_lanes) or {}) do
  for i = 2, #ARGV do waiting = waiting + (ask('XLEN', base .. ARGV[i] .. lane) or 0) end
end
return math.max(0, waiting)
