-- survive: a worker that lost its lease lives: the deaths that takeovers counted, or will count, for its runs are none.
--
-- KEYS  the key of each job's survivals
-- ARGV  how long this is remembered in ms
-- out   now
need(KEYS[1], 'INCR', 'SET', 'PEXPIRE')
for _, key in ipairs(KEYS) do
  -- A key that holds something else begins anew.
  if type(redis.pcall('INCR', key)) == 'table' then call('SET', key, 1) end
  call('PEXPIRE', key, ARGV[1])
end
return now
