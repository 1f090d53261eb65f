-- Included in scripts that write, so that each call either completes or changes nothing. Redis has
-- no rollback, so a script checks everything that can fail before its first write: permissions with
-- `need`, types with `expect`. It uses `pcall` for commands that may fail later, such as PUBLISH.

-- Whether the user may run this command with these arguments, and whether the server knows the
-- command: it may be disabled.
local function may(...)
  local known, allowed = pcall(redis.acl_check_cmd, ...)
  return known and allowed, known
end

-- Raise an error if the user may not run one of these commands on `key`.
local function need(key, ...)
  for n = 1, select('#', ...) do
    local command = select(n, ...)
    local allowed, known = may(command, key)
    if not known then error({ err = "ERR unknown command '" .. string.lower(command) .. "'" }) end
    if not allowed then
      error({ err = "NOPERM this user has no permissions to run the '" .. string.lower(command) .. "' command on " .. key })
    end
  end
end

-- Raise an error if one of these keys has another type.
local function expect(kind, ...)
  for _, key in ipairs({ ... }) do
    local found = call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
      error({ err = 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ' where a ' .. kind .. ' belongs' })
    end
  end
end

-- The reply to a read command. Nil if the key has the wrong type: the script then treats it as
-- missing.
local function ask(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  for _, harmless in ipairs({ 'WRONGTYPE', 'NOGROUP', 'Invalid stream ID' }) do
    if string.find(answer.err, harmless, 1, true) then return nil end
  end
  error(answer)
end

