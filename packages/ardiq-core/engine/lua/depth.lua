-- depth: how many jobs wait to start.
--
-- KEYS  due, running, lanes
-- ARGV  base, prefixes of the two kinds of stream
-- out   jobs that are ready or scheduled and not running
local waiting = call('ZCARD', KEYS[1]) - call('HLEN', KEYS[2])
for _, lane in ipairs(call('SMEMBERS', KEYS[3])) do
  for i = 2, #ARGV do waiting = waiting + call('XLEN', ARGV[1] .. ARGV[i] .. lane) end
end
return math.max(0, waiting)
