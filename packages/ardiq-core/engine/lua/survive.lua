-- survive: record that a worker that lost its lease is alive, so that takeovers of its runs do not count as deaths.
--
-- KEYS  the key of each job's survivals
-- ARGV  how long the survivals are kept in ms
-- out   now
need(KEYS[1], 'INCR', 'SET', 'PEXPIRE')
for _, key in ipairs(KEYS) do
  -- A key of the wrong type starts again at 1.
  if type(redis.pcall('INCR', key)) == 'table' then call('SET', key, 1) end
  call('PEXPIRE', key, ARGV[1])
end
return now
