-- Included in scripts that queue a delivered job again without its worker: it may have notes.

-- The flags of a job that is queued again by a script: its worker could not say whether the job has
-- notes. A user who may not check leaves the flags as they are.
local function with_notes(flags, notes_key)
  local is_set = math.floor(flags / NOTES) % 2 == 1
  if is_set or redis.pcall('EXISTS', notes_key) ~= 1 then return flags end
  return flags + NOTES
end

