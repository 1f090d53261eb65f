-- In front of the scripts that write: what makes a script happen as a whole or not at all. Redis undoes nothing, so whatever can
-- fail is found out before the first write: rights with `need`, types with `expect`. What may fail all the same, as publishing, is
-- called with `pcall`.

-- Refuse the call when the user may not run these commands on `key`.
local function need(key, ...)
  for n = 1, select('#', ...) do
    local command = select(n, ...)
    if not may(command, key) then
      error({ err = "NOPERM this user has no permissions to run the '" .. string.lower(command) .. "' command on " .. key })
    end
  end
end

-- Refuse the call when one of these keys holds something else.
local function expect(kind, ...)
  for _, key in ipairs({ ... }) do
    local found = call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
      error({ err = 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ' where a ' .. kind .. ' belongs' })
    end
  end
end

-- What a read brings. Nil when the key holds something else than it should: for the script, there is nothing.
local function ask(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  for _, harmless in ipairs({ 'WRONGTYPE', 'NOGROUP', 'Invalid stream ID' }) do
    if string.find(answer.err, harmless, 1, true) then return nil end
  end
  error(answer)
end

