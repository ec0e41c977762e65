-- renew: keep, or give up, the office of the elected scheduler; only its holder can.
-- KEYS    1 the office
-- ARGV    1 holder   2 ms to keep it; 0 = give it up
-- RETURNS 1 done, 0 somebody else holds it
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1
