-- wait: read a result, or leave word where it is to be sent.
--
-- KEYS  waiters, job record, due, running
-- ARGV  base, id, channel, ms to wait (0: only look)
-- out   the record when it is a result, else its kind ("" when there is none)
-- Word is left only for an unfinished job: nothing will ever be sent for another. A job whose entry was deleted has failed.
local id, channel = ARGV[2], ARGV[3]
local record = ask('GET', KEYS[2])
local kind = record and sub(record, 1, 1) or ''
if kind == 'R' then return record end
if kind ~= 'q' and kind ~= 'd' or ARGV[4] == '0' then return kind end
expect('hash', KEYS[1])
need(KEYS[1], 'HGET', 'HSET', 'HDEL')
local _, is_alive = presence()
if not is_alive(ARGV[1], KEYS[3], KEYS[4], id, record) then
  if kind == 'q' then
    need(KEYS[2], 'SET')
    record = lose(KEYS[2], id, record)
    notify(KEYS[1], id, record)
    return record
  end
  -- Its time is forgotten, its call is not: it is due now.
  call('ZADD', KEYS[3], now, id)
end
local deadline = string.format('%.0f', now + ARGV[4])
local line, others = channel .. ' ' .. deadline .. '\n', ''
for other, till in string.gmatch(call('HGET', KEYS[1], id) or '', '(%S+) (%d+)\n') do
  if other == channel then
    if tonumber(till) > tonumber(deadline) then line = other .. ' ' .. till .. '\n' end
  elseif tonumber(till) > now then
    others = others .. other .. ' ' .. till .. '\n'
  end
end
call('HSET', KEYS[1], id, others .. line)
return kind
