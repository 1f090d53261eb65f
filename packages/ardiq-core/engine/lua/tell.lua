-- In front of the scripts that send messages. Those that no message reaches look for themselves, after a while. All in one
-- function, since most calls have nothing to tell.

local function tell()
  -- Was there a message that this user may not send?
  local refused = false

  local function publish(channel, message)
    local answer = redis.pcall('PUBLISH', channel, message)
    refused = refused or type(answer) == 'table'
  end

  -- Send a result record to the callers that wait for it.
  local function notify(waiters, id, record)
    local waiting = redis.pcall('HGET', waiters, id)
    if type(waiting) ~= 'string' then return end
    local message = struct.pack('>H', #id) .. id .. record
    for channel in string.gmatch(waiting, '(%S+) %d+\n') do publish(channel, message) end
    redis.pcall('HDEL', waiters, id)
  end

  -- Tell the workers when a job became due earlier than all that they knew of.
  local function announce_due(due, wake, earliest)
    local head = redis.pcall('ZRANGE', due, 0, 0, 'WITHSCORES')
    if head[2] and earliest <= tonumber(head[2]) then publish(wake, string.format('%.0f', earliest)) end
  end

  return notify, announce_due, function() return refused end
end

