-- wait: read a result, or leave word where it is to be sent.
--
-- KEYS  waiters, job record
-- ARGV  id, channel, ms to wait (0: only look)
-- out   the record when it is a result, else its kind ("" when there is none)
local record = call('GET', KEYS[2])
local kind = record and sub(record, 1, 1) or ''
if kind == 'R' then return record end
if ARGV[3] ~= '0' then
  local deadline = string.format('%.0f', now + ARGV[3])
  local line, others = ARGV[2] .. ' ' .. deadline .. '\n', ''
  for channel, till in string.gmatch(call('HGET', KEYS[1], ARGV[1]) or '', '(%S+) (%d+)\n') do
    if channel == ARGV[2] then
      if tonumber(till) > tonumber(deadline) then line = channel .. ' ' .. till .. '\n' end
    elseif tonumber(till) > now then
      others = others .. channel .. ' ' .. till .. '\n'
    end
  end
  call('HSET', KEYS[1], ARGV[1], others .. line)
end
return kind
