-- forget: remove the waiting callers of one process that have given up.
--
-- KEYS  waiters
-- ARGV  job prefix, channel, ids
-- out   positions (from 0) of ids whose jobs have ended: their callers may have missed the message
expect('hash', KEYS[1])
need(KEYS[1], 'HGET', 'HSET', 'HDEL')
local ended = {}
for i = 3, #ARGV do
  local id, others, mine = ARGV[i], '', false
  for channel, till in string.gmatch(call('HGET', KEYS[1], id) or '', '(%S+) (%d+)\n') do
    if channel == ARGV[2] then
      mine = true
    elseif tonumber(till) > now then
      others = others .. channel .. ' ' .. till .. '\n'
    end
  end
  if mine and others == '' then
    call('HDEL', KEYS[1], id)
  elseif mine then
    call('HSET', KEYS[1], id, others)
  end
  local kind = ask('GETRANGE', ARGV[1] .. id, 0, 0)
  if kind == 'R' or kind == 'T' then ended[#ended + 1] = i - 3 end
end
return ended
