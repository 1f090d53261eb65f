-- relink: check a page of the jobs that wait for others. A parent that has ended without releasing
-- them is added to `releasing`.
--
-- KEYS  due, running, waiters, linked, releasing
-- ARGV  base, job prefix, unique prefix, body prefix, prefix of results, names of links, position
--       of the first job of the page, maximum number of jobs, cursor in the parents of that job
--       ("0" to begin)
-- out   now, position of the next page (-1 at the end), cursor in the parents of its first job, ids
--       of parents that were found
-- Workers of earlier versions settle a parent without releasing its children. Its children then
-- start when a page with them is checked. A job fails if a parent's outcome is not known any more,
-- or if the parent has no edge to it.
local due, running, waiters, linked, releasing = unpack(KEYS)
local base, job_prefix, unique_prefix, body_prefix, result_prefix, links = unpack(ARGV, 1, 6)
local first, most, cursor = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local MOST_PARENTS, LARGEST_MESSAGE = 100, 65536
local out = { now, -1, '0' }
expect('zset', due)
expect('hash', running, waiters, linked, releasing)
local ids = call('ZRANGEBYSCORE', due, NOT_YET, NOT_YET, 'LIMIT', first, most)
if #ids == 0 then return out end
need(due, link_commands())
need(due, 'GETRANGE', 'SSCAN', 'ZRANGEBYSCORE')
local children, parents, _, _, gates = string.match(links, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
children, parents = base .. children, base .. parents
local finish = endings(running, job_prefix, unique_prefix, body_prefix)
local graph = edges(base, links, due, linked, releasing, job_prefix, finish, 0, 0)
local notify = tell()
local left = MOST_PARENTS

-- The result record of a parent that has ended, that of a failure if its outcome is not known, or
-- nil if it has not ended.
local function result_of(id, nonce)
  if id == GATE then
    return ask('EXISTS', base .. gates .. hex(nonce)) == 0 and failure(id, nonce, INCOMPLETE) or nil
  end
  local record = ask('GETRANGE', job_prefix .. id, 0, NONCE_END - 1) or ''
  local kind = sub(record, 1, 1)
  if sub(record, NONCE, NONCE_END) ~= nonce then return failure(id, nonce, UNKNOWN_RESULT) end
  if kind == 'q' or kind == 'd' then return nil end
  local result = ask('GET', (kind == 'T' and result_prefix or job_prefix) .. id) or ''
  return sub(result, NONCE, NONCE_END) == nonce and result or failure(id, nonce, UNKNOWN_RESULT)
end

local function check(id)
  local record = ask('GETRANGE', job_prefix .. id, 0, NONCE_END - 1) or ''
  if sub(record, 1, 1) ~= 'd' then
    cursor = '0'
    return
  end
  local nonce = sub(record, NONCE, NONCE_END)
  local name = id .. ':' .. hex(nonce)
  local page = redis.pcall('SSCAN', parents .. name, cursor, 'COUNT', left)
  local members = not page.err and page[2] or {}
  cursor, left = not page.err and page[1] or '0', left - math.max(1, #members)
  local has_lost = #members == 0 and cursor == '0' and ask('EXISTS', parents .. name) ~= 1 and id
  for _, member in ipairs(members) do
    local of_parent, parent = sub(member, 1, 8), sub(member, 13)
    local token = of_parent .. parent
    local result = call('HEXISTS', releasing, token) == 0 and result_of(parent, of_parent)
    if result and (ask('LLEN', children .. parent .. ':' .. hex(of_parent)) or 0) > 0 then
      redis.pcall('HSET', releasing, token, cmsgpack.pack(departure(parent, result, true)))
      if ask('HGET', linked, parent) == of_parent then call('HDEL', linked, parent) end
      out[#out + 1] = parent
    elseif result then
      has_lost = parent
    end
  end
  local child = has_lost and graph.waiting(id, nonce)
  local text = has_lost == GATE and INCOMPLETE or FAILED_BY .. (has_lost or '')
  if child then graph.end_child(id, nonce, child, cmsgpack.pack(text), false) end
end

for n, id in ipairs(ids) do
  check(id)
  -- The parents of this job go on, or the page ends.
  if cursor ~= '0' then
    out[2], out[3] = first + n - 1, cursor
    break
  elseif left <= 0 or n == #ids then
    out[2] = n == #ids and #ids < most and -1 or first + n
    break
  end
end
graph.cascade()
for n = 1, #graph.told, 2 do
  notify(waiters, graph.told[n], #graph.told[n + 1] <= LARGEST_MESSAGE and graph.told[n + 1] or '')
end
return out
