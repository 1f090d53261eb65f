-- mend: set aside the keys of a queue that have the wrong type. Scripts that need these keys create
-- them again.
--
-- KEYS  keys of the queue
-- ARGV  base, prefix of the keys set aside, then the expected type of each key
-- out   names of the keys that were set aside, without the queue's prefix
local base, aside = ARGV[1], ARGV[2]
local FIRST_TYPE = 3
local out, wrong = {}, {}
for n, key in ipairs(KEYS) do
  local found = call('TYPE', key).ok
  if found ~= 'none' and found ~= ARGV[FIRST_TYPE + n - 1] then wrong[#wrong + 1] = key end
end
for _, key in ipairs(wrong) do
  local name = sub(key, #base + 1)
  call('RENAME', key, aside .. name)
  redis.pcall('PEXPIRE', aside .. name, ASIDE_MS)
  out[#out + 1] = name
end
return out
