-- wait: read a result, or add the caller to those that it will be sent to.
--
-- KEYS  waiters, job record, due, running, result, linked, releasing
-- ARGV  base, id, channel, ms to wait (0 to only check)
-- out   the record if it is a result, "L" if that has more than 64 KiB and must be read separately;
--       else its kind ("" if there is no record), followed by "+" if the caller was added, or by
--       "?" if it was added, but some worker cannot publish
-- A caller is added only for an unfinished job: no result will ever be sent for any other. A job
-- whose entry was deleted has failed. Any caller may ask for any job, so the number of lines per
-- job is limited. A caller that is not added checks again.
local waiters, job_key, due, running, result_key, linked, releasing = unpack(KEYS)
local base, id, channel, wait_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local MOST_LINES, LARGE = 64, 65536
-- One byte more than a small record has.
local function read(key) return ask('GETRANGE', key, 0, LARGE) or '' end
local record = read(job_key)
local kind = sub(record, 1, 1)
if kind == 'R' then return #record > LARGE and 'L' or record end
if kind == 'T' then
  local result = read(result_key)
  if result ~= '' and sub(result, NONCE, NONCE_END) == sub(record, NONCE, NONCE_END) then
    return #result > LARGE and 'L' or result
  end
end
if kind == '' or kind == 'T' or wait_ms == '0' then return kind end
-- A job that was just enqueued is assumed to exist.
local RECENT_MS = 1000
local born = kind == 'q' and tonumber(string.match(record, '^(%d+)%-', REST))
local doubtful = kind == 'd' or kind == 'q' and not (born and born > now - RECENT_MS)
if doubtful and not select(2, presence())(base, due, running, id, record) then
  expect('hash', waiters)
  need(waiters, 'HGET', 'HSET', 'HDEL', 'SET', 'ZADD')
  if kind == 'q' then
    record = lose(job_key, id, record, linked, releasing)
    tell()(waiters, id, record)
    return record
  end
  -- The job's due time is lost, but its call is not.
  call('ZADD', due, due_again(record), id)
end
local deadline = string.format('%.0f', now + wait_ms)
local line, others, lines = channel .. ' ' .. deadline .. '\n', '', 0
-- The field "" says until when some worker cannot publish.
local waiting, mute = call('HGET', waiters, id), redis.pcall('HGET', waiters, '')
for other, till in string.gmatch(waiting or '', '(%S+) (%d+)\n') do
  if other == channel then
    if tonumber(till) > tonumber(deadline) then line = other .. ' ' .. till .. '\n' end
  elseif tonumber(till) > now then
    others, lines = others .. other .. ' ' .. till .. '\n', lines + 1
  end
end
if lines >= MOST_LINES then return kind end
local added = redis.pcall('HSET', waiters, id, others .. line)
if type(added) == 'table' then
  -- A user who may only read can still check again.
  if may('HSET', waiters, id, line) then error(added) end
  return kind
end
local mute_until = type(mute) == 'string' and tonumber(string.match(mute, '(%d+)\n'))
return kind .. (mute_until and mute_until > now and '?' or '+')
