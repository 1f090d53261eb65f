-- release: release children of jobs that have ended, a limited number per call.
--
-- KEYS  due, running, waiters, aborting, linked, releasing
-- ARGV  base, job prefix, unique prefix, body prefix, prefix of notes, names of links, wake
--       channel, group, result TTL in ms
-- out   now, 1 if there is more to do (else 0), 1 if this user cannot publish (else 0)
-- `releasing` has a field for each ended job whose children are not all released, by its token;
-- "members <name>", a join that has failed, whose other members are not needed: those that no
-- worker has and that only the join depends on are aborted; "inputs <name>", a job that has ended,
-- some of whose inputs are shared with others: the last of them deletes the output.
local due, running, waiters, aborting, linked, releasing = unpack(KEYS)
local base, job_prefix, unique_prefix, body_prefix, notes_prefix, links, wake, group, ttl = unpack(ARGV)
local MOST_FIELDS, MOST_EDGES, MOST_MEMBERS, LARGEST_MESSAGE = 10, 40, 40, 65536
expect('hash', releasing)
local page = call('HRANDFIELD', releasing, MOST_FIELDS, 'WITHVALUES')
if #page == 0 then return { now, 0, 0 } end
expect('hash', running, waiters, aborting, linked)
expect('zset', due)
need(releasing, link_commands())
need(releasing, 'HRANDFIELD', 'SPOP', 'LINDEX', 'XRANGE', 'XPENDING', 'XDEL')
local children, parents, inputs = string.match(links, '^(%S+) (%S+) (%S+)')
children, parents, inputs = base .. children, base .. parents, base .. inputs
local finish = endings(running, job_prefix, unique_prefix, body_prefix, notes_prefix)
local graph = edges(base, links, due, linked, releasing, job_prefix, finish, tonumber(ttl), MOST_EDGES)
local notify, announce_due, is_refused, publish = tell()
local told, members_left = {}, MOST_MEMBERS

-- Abort the members of a failed join that no worker has. Jobs that existed before the workflow may
-- be of use to others.
local function drop_members(name)
  local _, abort = marks(aborting, linked, releasing, base, links, finish)
  local withdraw = withdrawal(base, group, due, running, job_prefix, linked, releasing, abort)
  local found = redis.pcall('SPOP', parents .. name, members_left)
  found = type(found) == 'table' and not found.err and found or {}
  members_left = members_left - #found
  for _, member in ipairs(found) do
    local id, of_member = sub(member, 13), sub(member, 1, 8)
    local key = children .. id .. ':' .. hex(of_member)
    local is_own = hex(of_member) == sub(name, -16)
    local first = is_own and ask('LLEN', key) == 1 and call('LINDEX', key, 0)
    local is_member = first and sub(first, 1, 1) == 'm' and
      sub(first, EDGE_HEAD + 1) .. ':' .. hex(sub(first, 6, EDGE_HEAD)) == name
    local record = is_member and ask('GET', job_prefix .. id)
    local kind = record and sub(record, NONCE, NONCE_END) == of_member and sub(record, 1, 1)
    if kind == 'q' or kind == 'd' then
      local what, result = withdraw(id, record)
      if what ~= 'held' then told[#told + 1], told[#told + 2] = id, result end
    end
  end
  if #found == 0 or ask('EXISTS', parents .. name) == 0 then call('HDEL', releasing, 'members ' .. name) end
end

-- Delete the inputs of a job that has ended, and the outputs that it was the last to need.
local function drop_inputs(name)
  local fields = redis.pcall('HRANDFIELD', inputs .. name, MOST_MEMBERS, 'WITHVALUES')
  fields = type(fields) == 'table' and not fields.err and fields or {}
  for n = 1, #fields, 2 do
    if tonumber(fields[n]) then release_output(base, links, fields[n + 1]) end
    call('HDEL', inputs .. name, fields[n])
  end
  if #fields == 0 or ask('EXISTS', inputs .. name) == 0 then call('HDEL', releasing, 'inputs ' .. name) end
end

for n = 1, #page, 2 do
  local field, value = page[n], page[n + 1]
  local kind, name = string.match(field, '^(%l+) (.+)$')
  if value == '' and kind == 'members' then
    if members_left > 0 then drop_members(name) end
  elseif value == '' and kind == 'inputs' then
    drop_inputs(name)
  else
    graph.resume(field, value)
  end
end
graph.cascade()
for n = 1, #graph.told do told[#told + 1] = graph.told[n] end
for n = 1, #told, 2 do notify(waiters, told[n], #told[n + 1] <= LARGEST_MESSAGE and told[n + 1] or '') end
if graph.earliest() then announce_due(due, wake, graph.earliest()) end
local has_more = call('EXISTS', releasing)
return { now, has_more, is_refused() and 1 or 0 }
