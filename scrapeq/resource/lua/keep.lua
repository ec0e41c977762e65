-- keep: store the state of a pagination unless it changed since it was read.
-- KEYS    1 the hash of pagination states
-- ARGV    1 key of the pagination   2 the state that was read ('' = none)   3 the state to store
-- RETURNS 1 stored, 0 the state has changed meanwhile
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
