-- Included in scripts that send messages. Callers and workers that miss a message check for
-- themselves after a while. One function creates all others, because most calls send nothing.

local function tell()
  -- Whether the user lacked permission to send a message.
  local refused = false

  -- Return whether anyone received the message.
  local function publish(channel, message)
    local answer = redis.pcall('PUBLISH', channel, message)
    if type(answer) == 'table' then refused = true end
    return type(answer) == 'number' and answer > 0
  end

  -- Send a result record to the callers waiting for it. Return false if some may have missed it:
  -- the user may not publish, or may not read the waiting callers, or a caller's connection is
  -- down.
  local function notify(waiters, id, record)
    local waiting = redis.pcall('HGET', waiters, id)
    if not waiting then return true end
    if type(waiting) ~= 'string' then return false end
    local message, received = struct.pack('>H', #id) .. id .. record, true
    for channel in string.gmatch(waiting, '(%S+) %d+\n') do received = publish(channel, message) and received end
    redis.pcall('HDEL', waiters, id)
    return received
  end

  -- Notify the workers if a job is due earlier than all jobs that they knew of.
  local function announce_due(due, wake, earliest)
    local head = redis.pcall('ZRANGE', due, 0, 0, 'WITHSCORES')
    if head[2] and earliest <= tonumber(head[2]) then publish(wake, string.format('%.0f', earliest)) end
  end

  return notify, announce_due, function() return refused end, publish
end

