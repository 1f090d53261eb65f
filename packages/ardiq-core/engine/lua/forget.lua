-- forget: remove the waiting callers of one process that have given up.
--
-- KEYS  waiters
-- ARGV  job prefix, channel, ids
-- out   positions (from 0) of ids whose jobs have ended: their callers may have missed the message
local waiters = KEYS[1]
local job_prefix, channel = ARGV[1], ARGV[2]
local FIRST_ID = 3
expect('hash', waiters)
need(waiters, 'HGET', 'HSET', 'HDEL', 'GETRANGE')
local ended = {}
for i = FIRST_ID, #ARGV do
  local id, others, mine = ARGV[i], '', false
  for other, till in string.gmatch(call('HGET', waiters, id) or '', '(%S+) (%d+)\n') do
    if other == channel then
      mine = true
    elseif tonumber(till) > now then
      others = others .. other .. ' ' .. till .. '\n'
    end
  end
  if mine and others == '' then
    call('HDEL', waiters, id)
  elseif mine then
    call('HSET', waiters, id, others)
  end
  local kind = ask('GETRANGE', job_prefix .. id, 0, 0)
  if kind == 'R' or kind == 'T' then ended[#ended + 1] = i - FIRST_ID end
end
return ended
