-- wait: read a result, or leave word where it is to be sent.
--
-- KEYS  waiters, job record, due, running, result
-- ARGV  base, id, channel, ms to wait (0: only look)
-- out   the record when it is a result; else its kind ("" when there is none), followed by "+" when word was left
-- Word is left only for an unfinished job: nothing will ever be sent for another. A job whose entry was deleted has failed. Anyone
-- may ask for a job, so only so many lines of one are kept; a caller whose word is not taken looks again.
local MOST_LINES = 64
local id, channel = ARGV[2], ARGV[3]
local record = ask('GET', KEYS[2])
local kind = record and sub(record, 1, 1) or ''
if kind == 'R' then return record end
if kind == 'T' then
  local result = ask('GET', KEYS[5])
  if result and sub(result, 2, 9) == sub(record, 2, 9) then return result end
end
if kind == '' or kind == 'T' or ARGV[4] == '0' then return kind end
-- A job that has just been enqueued is taken to be there.
local RECENT_MS = 1000
local born = kind == 'q' and tonumber(string.match(record, '^(%d+)%-', 10))
local doubtful = kind == 'd' or kind == 'q' and not (born and born > now - RECENT_MS)
if doubtful and not select(2, presence())(ARGV[1], KEYS[3], KEYS[4], id, record) then
  expect('hash', KEYS[1])
  need(KEYS[1], 'HSET', 'SET', 'ZADD')
  if kind == 'q' then
    record = lose(KEYS[2], id, record)
    tell()(KEYS[1], id, record)
    return record
  end
  -- Its time is forgotten, its call is not: it is due now.
  call('ZADD', KEYS[3], now, id)
end
local deadline = string.format('%.0f', now + ARGV[4])
local line, others, lines = channel .. ' ' .. deadline .. '\n', '', 0
for other, till in string.gmatch(call('HGET', KEYS[1], id) or '', '(%S+) (%d+)\n') do
  if other == channel then
    if tonumber(till) > tonumber(deadline) then line = other .. ' ' .. till .. '\n' end
  elseif tonumber(till) > now then
    others, lines = others .. other .. ' ' .. till .. '\n', lines + 1
  end
end
if lines >= MOST_LINES then return kind end
call('HSET', KEYS[1], id, others .. line)
return kind .. '+'
