-- run_finish: end this very run, if no task of it lives. Who is told '1' forgets what was seen and deletes `ending`.
-- KEYS    1 the queue's run key, "scrapeq:{queue}:run"
-- ARGV    1 the id of the run, 2 how long its counts are kept (s)
-- RETURNS '1' it ended now, '0' it goes on, has ended before, or is another run
local P = string.sub(KEYS[1], 1, -4)
local run = redis.call('HMGET', KEYS[1], 'id', 'state')
if run[1] ~= ARGV[1] or run[2] ~= 'running' then return '0' end
if redis.call('HLEN', P .. 'task') > redis.call('ZCARD', P .. 'dead') then return '0' end
redis.call('HSET', KEYS[1], 'state', 'finished', 'ending', '1')
redis.call('EXPIRE', P .. 'stats', ARGV[2])
return '1'
