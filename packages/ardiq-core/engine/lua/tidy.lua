-- tidy: forget callers whose wait has run out, a bounded number a call.
--
-- KEYS  waiters
-- ARGV  cursor
-- out   next cursor ("0": all seen), entries dropped
local page = call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 100)
local gone = {}
for n = 1, #page[2], 2 do
  local waiting = false
  for till in string.gmatch(page[2][n + 1], '%S+ (%d+)\n') do waiting = waiting or tonumber(till) > now end
  if not waiting then gone[#gone + 1] = page[2][n] end
end
if #gone > 0 then call('HDEL', KEYS[1], unpack(gone)) end
return { page[1], #gone }
