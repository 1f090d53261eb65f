-- survive: a worker that lost its lease lives: the deaths that takeovers counted, or will count, for its runs are none.
--
-- KEYS  the key of each job's survivals
-- ARGV  how long this is remembered in ms
-- out   now
for _, key in ipairs(KEYS) do
  call('INCR', key)
  call('PEXPIRE', key, ARGV[1])
end
return now
