-- run_finish: end this run if none of its tasks is live. The caller that gets '1' purges the seen digests, then deletes
-- the field `ending`.
-- KEYS    1 the queue's run key, "scrapeq:{queue}:run"
-- ARGV    1 id of the run   2 how long its counts and incomplete page sequences are stored (s)
-- RETURNS '1' it ended now, '0' it goes on, has ended before, or is not the current run
local P = string.sub(KEYS[1], 1, -4)
local run = redis.call('HMGET', KEYS[1], 'id', 'state')
if run[1] ~= ARGV[1] or run[2] ~= 'running' then return '0' end
if redis.call('HLEN', P .. 'task') > redis.call('ZCARD', P .. 'dead') then return '0' end
redis.call('HSET', KEYS[1], 'state', 'finished', 'ending', '1')
redis.call('EXPIRE', P .. 'stats', ARGV[2])
redis.call('EXPIRE', P .. 'incomplete', ARGV[2])
return '1'
