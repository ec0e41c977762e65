-- keep: what a walk keeps, in place of what was read before it was reckoned.
-- KEYS    1 the hash of what walks keep
-- ARGV    1 the walk's key   2 what was read ('' = nothing)   3 what to keep
-- RETURNS 1 done, 0 somebody else has kept something meanwhile
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
