-- save_state: store a cursor state unless another worker has changed it since it was read.
-- KEYS    1 the hash of cursor states
-- ARGV    1 the state's key   2 the value that was read ('' = none)   3 the new value
-- RETURNS 1 stored, 0 the value has changed meanwhile
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
