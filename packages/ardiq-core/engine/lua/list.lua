-- list: some jobs in one state, the oldest first (dead ones: the newest first).
--
-- KEYS  due, running, dead, lanes
-- ARGV  base, state (queued, scheduled, running, dead), most jobs, prefixes of the two kinds of stream (returned, lane)
-- out   ids; for dead ones (id, record, header .. envelope, body "" unless it was kept apart)
local state, most, out = ARGV[2], tonumber(ARGV[3]), {}
if state == 'scheduled' then return call('ZRANGE', KEYS[1], 0, most - 1) end
if state == 'running' then
  local cursor = '0'
  repeat
    local page = call('HSCAN', KEYS[2], cursor, 'COUNT', 100)
    cursor = page[1]
    for n = 1, #page[2], 2 do if #out < most then out[#out + 1] = page[2][n] end end
  until cursor == '0' or #out >= most
elseif state == 'dead' then
  for _, entry in ipairs(call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', most)) do
    out[#out + 1] = { entry[2][2], entry[2][4], entry[2][6], entry[2][8] or '' }
  end
else
  for _, lane in ipairs(call('SMEMBERS', KEYS[4])) do
    for i = 4, #ARGV do
      -- Running jobs stand in the streams too: look a little further than asked, and leave them out.
      for _, entry in ipairs(call('XRANGE', ARGV[1] .. ARGV[i] .. lane, '-', '+', 'COUNT', most + 1000)) do
        local id = sub(entry[2][1], HEADER + 1)
        if #out < most and call('HEXISTS', KEYS[2], id) == 0 then out[#out + 1] = id end
      end
    end
  end
end
return out
