-- scrub: check one page of one part of a queue, and repair damage from server faults or manual
-- changes.
--
-- KEYS  due, running, waiters, workers, worker info, aborting, linked, releasing, then pairs
--       (returned stream, lane stream)
-- ARGV  base, job prefix, unique prefix, body prefix, prefix of the keys set aside, group, prefix
--       of notes, names of links, part of the queue, cursor ("0" to begin), maximum number of
--       items; the parts are waiters, running, due, workers, entries, aborting, linked, records
-- out   next cursor ("0" at the end), number of workers, then pairs (repair, what was repaired):
--         told      number of jobs whose callers were removed: their time had passed, or no result
--                   was to come
--         lost      a queued job without an entry: it has failed, its callers are notified, and its
--                   id is free again
--         due       a scheduled job that was missing from the due set: it is due now, unless it
--                   waits for others
--         undue     a member of the due set that is not a scheduled job
--         start     a recorded start of a run that is over
--         worker    a worker whose lease was deleted by hand: it has a minute to renew it
--         stranded  a job whose delivery was acknowledged without an outcome, and which no living
--                   worker is known to run: it is queued again
--         leftover  an entry whose job is elsewhere
--         mark      a job that was to be aborted, but has ended
--         identity  a unique identity that no unfinished job holds
--         body      arguments that no unfinished job needs: they expire
--         notes     progress and checkpoints that no unfinished job needs: they were removed
--         parent    a job with children that has ended: they are released
--         link      what links jobs that have ended
--         aside     a key of the wrong type: it was set aside
local due, running, waiters, workers, info, aborting, linked, releasing = unpack(KEYS, 1, 8)
local FIRST_STREAM = 9
-- The position of the flags in a label.
local FLAGS = 5
local base, job_prefix, unique_prefix, body_prefix, aside, group, notes_prefix, links = unpack(ARGV, 1, 8)
local part, cursor, most = ARGV[9], ARGV[10], ARGV[11]
local location_of, is_alive = presence()
local notify = tell()
local finish = endings(running, job_prefix, unique_prefix, body_prefix, notes_prefix)
local is_marked, abort = marks(aborting, linked, releasing, base, links, finish)
local out = { '0', call('ZCARD', workers) }
expect('zset', due)
expect('hash', running, waiters, info, aborting, linked, releasing)
expect('stream', unpack(KEYS, FIRST_STREAM))
need(due, 'GET', 'GETRANGE', 'SET', 'STRLEN', 'HLEN', 'HGETALL', 'HINCRBY', 'DEL', 'UNLINK', 'RENAME', 'PEXPIRE', 'PTTL', 'ZADD', 'ZREM', 'ZSCORE', 'ZSCAN')
need(running, 'HGET', 'HEXISTS', 'HSET', 'HDEL', 'HSCAN', 'XRANGE', 'XPENDING', 'XADD', 'XDEL')

local function report(repair, what) out[#out + 1], out[#out + 2] = repair, what end

-- The beginning of a record, which says where the job is. "" if there is no record, nil if the key
-- is not a string.
local function head_of(id) return ask('GETRANGE', job_prefix .. id, 0, 511) end

local function is_record(head, kinds)
  return head and #head >= NONCE_END and string.find(kinds, sub(head, 1, 1), 1, true)
end

-- Check an unfinished job, and repair it if need be. Return false if the job is not (or no longer)
-- unfinished.
local function is_unfinished(id, head)
  if not is_record(head, 'qd') then return false end
  if is_alive(base, due, running, id, head) then return true end
  if sub(head, 1, 1) == 'd' then
    call('ZADD', due, due_again(head), id)
    report('due', id)
    return true
  end
  notify(waiters, id, lose(job_prefix .. id, id, head, linked, releasing))
  report('lost', id)
  return false
end

-- The items of one page: pairs of a hash or a sorted set or, without `key`, names of keys.
local function page_of(command, key)
  local page = key and call(command, key, cursor, 'COUNT', most) or call(command, cursor, 'COUNT', most)
  out[1] = page[1]
  return page[2]
end

local parts = {}

function parts.waiters()
  local items, forgotten = page_of('HSCAN', waiters), 0
  for n = 1, #items, 2 do
    local id, waiting = items[n], false
    for till in string.gmatch(items[n + 1], '%S+ (%d+)\n') do waiting = waiting or tonumber(till) > now end
    -- The field "" is not a job: it says until when some worker cannot publish.
    local head = waiting and id ~= '' and head_of(id)
    if is_record(head, 'R') then
      -- The script that stored this result could not send it.
      local is_large = call('STRLEN', job_prefix .. id) > 65536
      notify(waiters, id, is_large and '' or call('GET', job_prefix .. id))
    elseif not (id == '' and waiting) and not is_unfinished(id, head) then
      forgotten = forgotten + call('HDEL', waiters, id)
    end
  end
  if forgotten > 0 then report('told', forgotten) end
end

function parts.running()
  local items = page_of('HSCAN', running)
  for n = 1, #items, 2 do
    local id, head = items[n], head_of(items[n])
    local entry, worker = string.match(items[n + 1], '^(%S+) (%S+)')
    local at, stream = location_of(base, is_record(head, 'q') and head or '')
    local found = at and at == entry and ask('XRANGE', stream, entry, entry)
    -- If its entry was deleted, a run still continues as long as its worker is alive.
    if not found or not (found[1] or call('ZSCORE', workers, worker)) then
      call('HDEL', running, id)
      report('start', id)
      is_unfinished(id, head)
    end
  end
end

function parts.due()
  local items = page_of('ZSCAN', due)
  for n = 1, #items, 2 do
    if not is_record(head_of(items[n]), 'd') then
      call('ZREM', due, items[n])
      report('undue', items[n])
    end
  end
end

function parts.workers()
  local items = page_of('HSCAN', info)
  for n = 1, #items, 2 do
    if call('ZADD', workers, 'NX', now + RENEWAL_MS, items[n]) == 1 then report('worker', items[n]) end
  end
end

-- Whether a worker has recorded that it runs this very entry. Reclaim removes dead workers from
-- `workers`. Until then, the outcome counts even if the entry is no longer pending.
local function has_runner(id, entry)
  local run = call('HGET', running, id) or ''
  local started, worker = string.match(run, '^(%S+) (%S+)')
  return started == entry and call('ZSCORE', workers, worker)
end

-- The label with the flag of a job that has notes, if it has. The run that wrote them left no
-- outcome.
local function flagged(label, id, envelope)
  local flags = string.byte(label, FLAGS)
  local now_set = with_notes(flags, key_of_run(notes_prefix, id, envelope))
  return sub(label, 1, FLAGS - 1) .. string.char(now_set) .. sub(label, FLAGS + 1)
end

-- An entry that was delivered but is neither pending nor deleted would never be read again. The
-- cursor names a stream and an entry.
function parts.entries()
  local position, after = string.match(cursor, '^(%d+) (%S+)$')
  position = tonumber(position) or FIRST_STREAM
  local stream = KEYS[position]
  local is_returned = (position - FIRST_STREAM) % 2 == 0
  local groups, delivered = redis.pcall('XINFO', 'GROUPS', stream), nil
  for _, one in ipairs(groups.err and {} or groups) do
    if one[2] == group then delivered = one[8] end
  end
  local page = delivered and ask('XRANGE', stream, after and '(' .. after or '-', delivered, 'COUNT', most) or {}
  for _, found in ipairs(page) do
    local entry, label, envelope = found[1], found[2][1], found[2][2]
    local pending = ask('XPENDING', stream, group, entry, entry, 1)
    if pending and not pending[1] then
      local id = sub(label, HEADER + 1)
      local returned = KEYS[is_returned and position or position - 1]
      local is_here = id ~= '' and is_at(head_of(id), entry, sub(stream, #base + 1))
      if not (is_here and has_runner(id, entry)) then
        if is_here and is_marked(id, envelope) then
          notify(waiters, id, abort(id, sub(label, 1, HEADER), envelope))
        elseif is_here then
          add_to_stream(base, returned, job_prefix .. id, flagged(label, id, envelope), envelope)
        end
        report(is_here and 'stranded' or 'leftover', id)
        call('XDEL', stream, entry)
      end
    end
  end
  if #page == tonumber(most) then
    out[1] = position .. ' ' .. page[#page][1]
  elseif position < #KEYS then
    out[1] = position + 1 .. ' 0-0'
  end
end

function parts.aborting()
  local items = page_of('HSCAN', aborting)
  for n = 1, #items, 2 do
    local id, head = items[n], head_of(items[n])
    if not is_record(head, 'qd') or sub(head, NONCE, NONCE_END) ~= items[n + 1] then
      call('HDEL', aborting, id)
      report('mark', id)
    end
  end
end

-- A worker of an earlier version may have settled a parent without releasing its children.
function parts.linked()
  local items = page_of('HSCAN', linked)
  for n = 1, #items, 2 do
    local id, nonce, head = items[n], items[n + 1], head_of(items[n])
    -- The result of a record `T` is elsewhere: `relink` finds it.
    if not (is_record(head, 'qdT') and sub(head, NONCE, NONCE_END) == nonce) then
      local result = is_record(head, 'R') and sub(head, NONCE, NONCE_END) == nonce and call('GET', job_prefix .. id)
      if not depart(linked, releasing, id, result or failure(id, nonce, UNKNOWN_RESULT), true) then call('HDEL', linked, id) end
      report('parent', id)
    end
  end
end

local function set_aside(key)
  local name = sub(key, #base + 1)
  call('RENAME', key, aside .. name)
  call('PEXPIRE', aside .. name, ASIDE_MS)
  report('aside', name)
end

local function check_record(key, id)
  local head = head_of(id)
  if head == nil or (#head < NONCE_END and head ~= '') then set_aside(key) else is_unfinished(id, head) end
end

local function check_identity(key, digest)
  local holder = ask('GET', key)
  if holder == nil then
    set_aside(key)
  elseif holder and not is_unfinished(holder, head_of(holder)) then
    call('DEL', key)
    report('identity', digest)
  end
end

-- Whether the unfinished job that the name of a key refers to exists.
local function has_owner(name)
  local id, nonce = string.match(name, '^(.*):(%x+)$')
  local head = id and head_of(id)
  return is_record(head, 'qd') and hex(sub(head, NONCE, NONCE_END)) == nonce
end

-- Producers send bodies with a time to live, so bodies without jobs expire. Only bodies that do not
-- expire are checked.
local function check_body(key, name)
  if call('PTTL', key) ~= -1 then return end
  if has_owner(name) then return end
  call('PEXPIRE', key, 60000)
  report('body', name)
end

-- Only the run of an unfinished job writes notes, and they are removed when the job ends.
local function check_notes(key, name)
  if has_owner(name) then return end
  call('UNLINK', key)
  report('notes', name)
end

-- Parents, inputs and edges belong to an unfinished job, or to one whose children are released.
local function check_link(key, name)
  local id, nonce = string.match(name, '^(.*):(%x+)$')
  local head = id and head_of(id)
  local own = is_record(head, 'qd') and hex(sub(head, NONCE, NONCE_END))
  if id == nil or own == nonce then return end
  local raw = string.gsub(nonce, '%x%x', function(byte) return string.char(tonumber(byte, 16)) end)
  for _, field in ipairs({ raw .. id, 'members ' .. name, 'inputs ' .. name }) do
    if call('HEXISTS', releasing, field) == 1 then return end
  end
  -- A worker of an earlier version has settled the parent, or the parts of a workflow are coming.
  if ask('HGET', linked, id) == raw or ask('EXISTS', base .. string.match(links, '%S+$') .. nonce) == 1 then return end
  free_inputs(base, links, releasing, name)
  -- `release` deletes inputs that are shared with many other jobs.
  if call('HEXISTS', releasing, 'inputs ' .. name) == 0 then call('UNLINK', key) end
  report('link', name)
end

function parts.records()
  local kinds = {
    [job_prefix] = check_record,
    [unique_prefix] = check_identity,
    [body_prefix] = check_body,
    [notes_prefix] = check_notes,
  }
  local children, parents, inputs = string.match(links, '^(%S+) (%S+) (%S+)')
  for _, prefix in ipairs({ children, parents, inputs }) do kinds[base .. prefix] = check_link end
  for _, key in ipairs(page_of('SCAN')) do
    for prefix, check in pairs(kinds) do
      if sub(key, 1, #prefix) == prefix then check(key, sub(key, #prefix + 1)) end
    end
  end
end

parts[part]()
return out
