-- run_begin: resume the unfinished run of a queue or start a new one, so that machines that start at once agree.
-- KEYS    1 the queue's run key, "scrapeq:{queue}:run"
-- ARGV    1 id for a new run   2 the time (s)   3 '1' = start even if an earlier run is still ending
--         4 number of dead letters before it   5 when the queue was created (us)   6... further fields and values
-- RETURNS 'resumed', 'new', 'first' (new, and the store has no record of an earlier run), or 'ending': an earlier run
--         is still forgetting the digests it has seen
local run = redis.call('HMGET', KEYS[1], 'state', 'id')
if run[1] == 'running' then return 'resumed' end
if ARGV[3] ~= '1' and redis.call('HEXISTS', KEYS[1], 'ending') == 1 then return 'ending' end
local P = string.sub(KEYS[1], 1, -4)
redis.call('DEL', KEYS[1], P .. 'stats', P .. 'incomplete')
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'state', 'running', 'started_s', ARGV[2], 'died_before', ARGV[4],
           'queue', ARGV[5], unpack(ARGV, 6))
if run[1] == 'finished' then redis.call('HSET', KEYS[1], 'finished_before', run[2]) end
return run[1] and 'new' or 'first'
