-- depth: count the jobs that are waiting to start.
--
-- KEYS  due, running, lanes
-- ARGV  base, prefixes of the two kinds of stream
-- out   number of jobs that are ready or scheduled, but not running
local waiting = (ask('ZCARD', KEYS[1]) or 0) - (ask('HLEN', KEYS[2]) or 0)
for _, lane in ipairs(ask('SMEMBERS', KEYS[3]) or {}) do
  for i = 2, #ARGV do waiting = waiting + (ask('XLEN', ARGV[1] .. ARGV[i] .. lane) or 0) end
end
return math.max(0, waiting)
