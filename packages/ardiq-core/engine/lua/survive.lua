-- survive: record that a worker that lost its lease is alive, so that takeovers of its runs do not count as deaths.
--
-- KEYS  the key of each job's survivals
-- ARGV  how long the survivals are kept in ms, then per key: the name under which the worker held the lost lease
-- out   now
-- A repeated call changes nothing: a lease is lost once.
need(KEYS[1], 'SADD', 'DEL', 'PEXPIRE')
for n, key in ipairs(KEYS) do
  if type(redis.pcall('SADD', key, ARGV[n + 1])) == 'table' then
    call('DEL', key)
    call('SADD', key, ARGV[n + 1])
  end
  call('PEXPIRE', key, ARGV[1])
end
return now
