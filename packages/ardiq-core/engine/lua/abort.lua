-- abort: end a job that no worker has, or mark it for the worker that has it.
--
-- KEYS  due, running, waiters, aborting, linked, releasing
-- ARGV  base, job prefix, unique prefix, body prefix, prefix of notes, names of links, wake
--       channel, group, id, nonce of the job
-- out   1 if the user cannot publish (else 0), then: "aborted" by this call; "asked", a worker has
--       the job and was told; "ended", the job has ended, or was found to be lost; "gone", there is
--       no such job, or the id belongs to a later one
-- The mark is announced on the wake channel. A worker that misses the message learns of it when it
-- looks for dead workers, once a second.
local due, running, waiters, aborting, linked, releasing = unpack(KEYS)
local base, job_prefix, unique_prefix, body_prefix, notes_prefix, links, wake, group, id, nonce = unpack(ARGV)
local notify, _, is_refused, publish = tell()
local finish = endings(running, job_prefix, unique_prefix, body_prefix, notes_prefix)
local _, abort = marks(aborting, linked, releasing, base, links, finish)
local withdraw = withdrawal(base, group, due, running, job_prefix, linked, releasing, abort)
local function answer(what) return { is_refused() and 1 or 0, what } end
local record = ask('GET', job_prefix .. id)
if not record or sub(record, NONCE, NONCE_END) ~= nonce then return answer('gone') end
local kind = sub(record, 1, 1)
if kind == 'R' or kind == 'T' then return answer('ended') end
if kind ~= 'q' and kind ~= 'd' then return answer('gone') end
expect('zset', due)
expect('hash', running, waiters, aborting, linked, releasing)
need(job_prefix .. id, 'SET', 'DEL', 'UNLINK', 'EXISTS')
need(due, 'ZREM', 'HGET', 'HEXISTS', 'HLEN', 'HGETALL', 'HINCRBY', 'HSET', 'HDEL', 'XRANGE', 'XPENDING', 'XDEL')

local what, result = withdraw(id, record)
if what == 'held' then
  -- The caller repeats this call, and workers look for marks in any case.
  if call('HSET', aborting, id, nonce) == 1 then publish(wake, 'abort') end
  return answer('asked')
end
call('HDEL', aborting, id)
notify(waiters, id, result)
if call('EXISTS', releasing) == 1 then publish(wake, 'release') end
return answer(what == 'aborted' and 'aborted' or 'ended')
