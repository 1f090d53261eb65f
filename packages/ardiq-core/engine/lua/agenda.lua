-- Included in scripts that read or write schedules.
--
-- schedule record   origin (1 byte: d dynamic, s static) .. state (1 byte: a active, p paused) ..
--                   revision (8 bytes) .. time of the last change (u48, epoch ms) .. plan, msgpack
-- The field of `schedules` with the empty name has the revision of the last change of a dynamic
-- schedule. `cron` has two fields for each schedule: its last occurrence and, under its name and
-- RAN, the last occurrence that became a job. No name of a schedule contains a space.
local STATE, REVISION, REVISION_END, PLAN, RAN = 2, 3, 10, 17, ' job'
-- A static schedule that no worker has declared for so long is no longer in the code.
local DECLARED_MS = 120000

local function is_declared(declared, name)
  local declared_ms = ask('ZSCORE', declared, name)
  return declared_ms and tonumber(declared_ms) > now - DECLARED_MS or false
end

-- Let no occurrence up to now be fired.
local function skip_until_now(cron, name)
  local last = tonumber(call('HGET', cron, name) or nil)
  if not last or last < now then call('HSET', cron, name, now) end
end
