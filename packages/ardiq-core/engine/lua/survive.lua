-- survive: record that a worker that lost its lease is alive, so that takeovers of its runs do not
-- count as deaths.
--
-- KEYS  the key of each job's survivals
-- ARGV  how long the survivals are kept in ms, then per key: the name under which the worker held
--       the lost lease
-- out   now
-- A repeated call changes nothing: a lease is lost once.
local ttl_ms = ARGV[1]
need(KEYS[1], 'SADD', 'DEL', 'PEXPIRE')
for n, key in ipairs(KEYS) do
  local worker = ARGV[n + 1]
  if type(redis.pcall('SADD', key, worker)) == 'table' then
    call('DEL', key)
    call('SADD', key, worker)
  end
  call('PEXPIRE', key, ttl_ms)
end
return now
