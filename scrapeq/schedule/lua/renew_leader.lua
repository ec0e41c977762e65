-- renew_leader: renew or release the leader lock of the scheduler; only its leader can.
-- KEYS    1 the lock
-- ARGV    1 leader   2 ms to hold it; 0 = release it
-- RETURNS 1 done, 0 another scheduler is the leader
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1
