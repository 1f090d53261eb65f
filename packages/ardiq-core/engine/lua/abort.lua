-- abort: end a job that no worker has, or mark it for the worker that has it.
--
-- KEYS  due, running, waiters, aborting
-- ARGV  base, job prefix, unique prefix, body prefix, wake channel, group, id, nonce of the job,
--       prefix of notes
-- out   1 if the user cannot publish (else 0), then: "aborted" by this call; "asked", a worker has
--       the job and was told; "ended", the job has ended, or was found to be lost; "gone", there is
--       no such job, or the id belongs to a later one
-- The mark is announced on the wake channel. A worker that misses the message learns of it when it
-- looks for dead workers, once a second.
local due, running, waiters, aborting = unpack(KEYS)
local base, job_prefix, unique_prefix, body_prefix, wake, group, id, nonce, notes_prefix = unpack(ARGV)
local job_key = job_prefix .. id
local location_of = presence()
local notify, _, is_refused, publish = tell()
local _, abort = marks(aborting, running, job_prefix, unique_prefix, body_prefix, notes_prefix)
local function answer(what) return { is_refused() and 1 or 0, what } end
local record = ask('GET', job_key)
if not record or sub(record, NONCE, NONCE_END) ~= nonce then return answer('gone') end
local kind = sub(record, 1, 1)
if kind == 'R' or kind == 'T' then return answer('ended') end
if kind ~= 'q' and kind ~= 'd' then return answer('gone') end
expect('zset', due)
expect('hash', running, waiters, aborting)
need(job_key, 'SET', 'DEL', 'UNLINK')
need(due, 'ZREM', 'HGET', 'HSET', 'HDEL', 'XRANGE', 'XPENDING', 'XDEL')

local function end_as_lost()
  call('HDEL', aborting, id)
  notify(waiters, id, lose(job_key, id, record))
  return answer('ended')
end

local function finish(header, envelope)
  notify(waiters, id, abort(id, header, envelope))
  return answer('aborted')
end

if kind == 'd' then
  local header = REST + 1 + (string.byte(record, REST) or 0)
  local envelope = sub(record, header + HEADER)
  call('ZREM', due, id)
  if #envelope >= NONCE_END then return finish(sub(record, header, header + HEADER - 1), envelope) end
  -- The record is truncated, so there is nothing to run.
  return end_as_lost()
end

local entry, stream = location_of(base, record)
local found = entry and ask('XRANGE', stream, entry, entry)
found = found and found[1] and found[1][2]
local pending = entry and ask('XPENDING', stream, group, entry, entry, 1)
local run = entry and call('HGET', running, id)
local is_held = pending and pending[1] or run and sub(run, 1, #entry + 1) == entry .. ' '
if is_held then
  -- The caller repeats this call, and workers look for marks in any case.
  if call('HSET', aborting, id, nonce) == 1 then publish(wake, 'abort') end
  return answer('asked')
end
-- Delete an entry that was not delivered. It counts as read, or the group's lag would be too high
-- from then on, and `settle` could not rely on it.
local function delete_undelivered()
  call('XDEL', stream, entry)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, one in ipairs(groups.err and {} or groups) do
    local last, entries_read = one[8], one[10]
    if one[2] == group and entries_read then
      redis.pcall('XGROUP', 'SETID', stream, group, last, 'ENTRIESREAD', entries_read + 1)
    end
  end
end

if found and #found[1] >= HEADER and #found[2] >= NONCE_END then
  delete_undelivered()
  return finish(sub(found[1], 1, HEADER), found[2])
end
-- Its entry was deleted or damaged from outside ArdiQ.
if found then delete_undelivered() end
return end_as_lost()
