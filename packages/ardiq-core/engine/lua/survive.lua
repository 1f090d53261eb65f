-- survive: record that a worker that lost its lease is alive, so that takeovers of its runs do not
-- count as deaths.
--
-- KEYS  pairs: key of a job's survivals, key of the job
-- ARGV  how long the survivals are kept in ms, then per job: entry id of the delivery that was
--       taken over
-- out   now
-- A repeated call changes nothing: a delivery is taken over once. Nothing is recorded for a job
-- that has ended or has no record, because nothing would use it.
local ttl_ms = ARGV[1]
need(KEYS[1], 'SADD', 'DEL', 'PEXPIRE', 'GETRANGE')
for n = 1, #KEYS / 2 do
  local key, entry = KEYS[2 * n - 1], ARGV[n + 1]
  local kind = ask('GETRANGE', KEYS[2 * n], 0, 0)
  if kind ~= '' and kind ~= 'R' and kind ~= 'T' then
    if type(redis.pcall('SADD', key, entry)) == 'table' then
      call('DEL', key)
      call('SADD', key, entry)
    end
    call('PEXPIRE', key, ttl_ms)
  end
end
return now
