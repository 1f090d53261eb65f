-- Included in scripts that queue a delivered job again, or end it: it may have notes.

-- A nonce as it is written in the names of keys.
local function hex(nonce)
  return (string.gsub(nonce, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end

-- The key of a job whose name also has the nonce of the enqueue. `text` is its record or its
-- envelope: the nonce has the same position in both.
local function key_of_run(prefix, id, text) return prefix .. id .. ':' .. hex(sub(text, NONCE, NONCE_END)) end

-- The flags of a job that is queued again by a script: its worker could not say whether the job has
-- notes. A user who may not check leaves the flags as they are.
local function with_notes(flags, notes_key)
  local is_set = math.floor(flags / NOTES) % 2 == 1
  if is_set or redis.pcall('EXISTS', notes_key) ~= 1 then return flags end
  return flags + NOTES
end

