-- fire: enqueue one occurrence of a schedule, once across all workers.
--
-- KEYS  cron, due, running, lane stream, schedules
-- ARGV  base, job prefix, unique prefix, schedule name, fire time ms, ms until the next occurrence,
--       id, unique digest or "-", envelope, revision of a dynamic schedule (empty for a static
--       one), ms after which an occurrence is dropped, mode ("-"; "coalesce" to skip the occurrence
--       while the job of the previous one is unfinished; "hand" to fire now, whatever was fired)
-- out   now, then 1 fired by this call; 2 the same, after the server's clock was set back; 0 not
--       fired: this occurrence or a later one was fired before, it is not due yet or too late, its
--       job or the previous one is unfinished, or an unfinished job holds the unique identity; 3
--       the schedule is paused, or this is not its present revision; then, for mode "hand" and 0,
--       the id of the job that there is instead
-- If the last fired occurrence is further ahead of the current time than the next occurrence is of
-- this one, or than a minute, the clock was set back, and the script ignores the last one. A
-- smaller step is waited for: no occurrence is fired twice.
local cron, due, running, lane, schedules = unpack(KEYS)
local base, job_prefix, unique_prefix, schedule, fire_ms, gap_ms, id, unique, envelope = unpack(ARGV, 1, 9)
local revision, most_late_ms, mode = ARGV[10], tonumber(ARGV[11]), ARGV[12]
local TOLERANCE_MS, LEAST_MS = 60000, 1000
local by_hand, fire_at = mode == 'hand', tonumber(fire_ms)
local _, is_alive, holder_of = presence()
local plan = ask('HGET', schedules, schedule) or ''
local is_paused = sub(plan, STATE, STATE) == 'p' and not by_hand
if revision ~= '' then
  if is_paused or sub(plan, REVISION, REVISION_END) ~= revision then return { now, 3 } end
elseif is_paused and sub(plan, 1, 1) == 's' then
  -- A static schedule replaces a dynamic one of its name.
  return { now, 3 }
end
local last_ms = call('HGET', cron, schedule)
local last = tonumber(last_ms or nil)
local set_back = last and last > now + math.min(math.max(tonumber(gap_ms), LEAST_MS), TOLERANCE_MS)
if not by_hand then
  local is_due = fire_at <= now + LEAST_MS and now - fire_at <= most_late_ms
  if not is_due or last and not set_back and last >= fire_at then return { now, 0 } end
end

-- After the clock was set back, the same occurrence may come up again.
local function is_unfinished(id)
  local record = ask('GETRANGE', job_prefix .. id, 0, 511) or ''
  local kind = sub(record, 1, 1)
  return (kind == 'q' or kind == 'd') and is_alive(base, due, running, id, record)
end

-- The last occurrence whose job is unfinished.
local function unfinished_before()
  local series = sub(id, 1, -#fire_ms - 1)
  for _, at in ipairs({ call('HGET', cron, schedule .. RAN) or '', last_ms or '' }) do
    if at ~= '' and is_unfinished(series .. at) then return at end
  end
  return nil
end

local unique_key = unique ~= '-' and unique_prefix .. unique
local holder = unique_key and holder_of(base, due, running, job_prefix, unique_key, id)
if not holder and is_unfinished(id) then holder = id end
local before = not holder and mode == 'coalesce' and unfinished_before()
-- An earlier try of this call may have fired it, and the job may have ended since.
if by_hand and call('HGET', cron, schedule .. RAN) == fire_ms then holder = id end
if by_hand and holder then return { now, 0, holder } end
expect('stream', lane)
need(lane, 'HSET', 'XADD', 'SET')
if by_hand then
  call('HSET', cron, schedule .. RAN, fire_ms)
elseif before then
  -- The next call has to ask for the same job.
  call('HSET', cron, schedule, fire_ms, schedule .. RAN, before)
  return { now, 0 }
elseif holder then
  call('HSET', cron, schedule, fire_ms)
  return { now, 0 }
else
  call('HSET', cron, schedule, fire_ms, schedule .. RAN, fire_ms)
end
if unique_key then call('SET', unique_key, id) end
local label = struct.pack(NEW_HEADER_FORMAT, 0, 0, 0, 0, now) .. id
add_to_stream(base, lane, job_prefix .. id, label, envelope)
return { now, set_back and not by_hand and 2 or 1 }
