-- note: store what runs report, each only if its delivery is still valid.
--
-- KEYS  per run: key of the job, key of its notes
-- ARGV  per run: id, entry id, stream without the queue's prefix, progress ("" if there is none),
--       "c" and the checkpoint ("" if there is none), channels of the processes that follow the
--       job, each followed by a space
-- out   positions (from 0) of runs whose delivery was no longer valid: nothing was stored for them
-- The flag of a job that has notes is in the header of its next entry: entries never change.
local refused, valid = {}, {}
for n = 1, #KEYS, 2 do
  local first = (n - 1) / 2 * 6
  local record = ask('GET', KEYS[n])
  need(KEYS[n + 1], 'HSET', 'DEL')
  if is_at(record, ARGV[first + 2], ARGV[first + 3]) then
    valid[#valid + 1] = { key = KEYS[n + 1], first = first, nonce = sub(record, NONCE, NONCE_END) }
  else
    refused[#refused + 1] = (n - 1) / 2
  end
end

local _, _, _, publish = tell()
for _, run in ipairs(valid) do
  local id, progress, checkpoint, channels = ARGV[run.first + 1], unpack(ARGV, run.first + 4, run.first + 6)
  local fields = {}
  if progress ~= '' then
    fields = { 'progress', progress, 'reported', string.format('%.0f', now) }
  end
  if checkpoint ~= '' then
    fields[#fields + 1] = 'checkpoint'
    fields[#fields + 1] = sub(checkpoint, 2)
  end
  if type(redis.pcall('HSET', run.key, unpack(fields))) == 'table' then
    -- Other software has used this name for a value of another type.
    call('DEL', run.key)
    call('HSET', run.key, unpack(fields))
  end
  local message = struct.pack('>H', #id) .. id .. 'P' .. run.nonce .. struct.pack('>I6', now) .. progress
  for channel in string.gmatch(channels, '(%S+) ') do publish(channel, message) end
end
return refused
