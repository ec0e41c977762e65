-- run_begin: resume the unfinished run of a queue or start a new one, so that machines that start at once agree.
-- KEYS    1 the queue's run key, "scrapeq:{queue}:run"
-- ARGV    1 id for a new run   2 the time (s)   3 '1' = start even if an earlier run is still ending
--         4 number of dead letters before it
-- RETURNS 'resumed', 'new', or 'ending': an earlier run is still forgetting the digests it has seen
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'running' then return 'resumed' end
if ARGV[3] ~= '1' and redis.call('HEXISTS', KEYS[1], 'ending') == 1 then return 'ending' end
local P = string.sub(KEYS[1], 1, -4)
redis.call('DEL', KEYS[1], P .. 'stats', P .. 'incomplete')
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'state', 'running', 'started_s', ARGV[2], 'died_before', ARGV[4])
return 'new'
