-- mend: set keys of a queue aside that hold something else than they should. Whatever needs them makes them anew.
--
-- KEYS  keys of the queue
-- ARGV  base, prefix of what is set aside, then the type of each key
-- out   names of the keys that were set aside, without the queue's prefix
local out, wrong = {}, {}
for n, key in ipairs(KEYS) do
  local found = call('TYPE', key).ok
  if found ~= 'none' and found ~= ARGV[n + 2] then wrong[#wrong + 1] = key end
end
for _, key in ipairs(wrong) do
  local name = sub(key, #ARGV[1] + 1)
  call('RENAME', key, ARGV[2] .. name)
  redis.pcall('PEXPIRE', ARGV[2] .. name, ASIDE_MS)
  out[#out + 1] = name
end
return out
