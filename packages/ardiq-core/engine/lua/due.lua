-- Included in scripts that return the time until the next job is due.

-- Milliseconds until the next job is due, or -1 when none is scheduled.
local function due_in(due)
  local head = redis.pcall('ZRANGE', due, 0, 0, 'WITHSCORES')
  if not head[2] then return -1 end
  return math.max(0, tonumber(head[2]) - now)
end

