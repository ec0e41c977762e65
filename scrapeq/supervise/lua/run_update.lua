-- run_update: change the record of a run or its counts, if it is still the queue's run.
-- KEYS    1 the queue's run key, "scrapeq:{queue}:run"
-- ARGV    1 id of the run   2 'set' (fields of the record) or 'add' (to its counts)   3... field, value, ...
-- RETURNS '1' done, '0' the store does not have this run
local what = ARGV[2]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return '0' end
if what == 'set' then
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
else
  local stats = string.sub(KEYS[1], 1, -4) .. 'stats'
  for i = 3, #ARGV, 2 do redis.call('HINCRBYFLOAT', stats, ARGV[i], ARGV[i + 1]) end
end
return '1'
