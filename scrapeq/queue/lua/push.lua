-- push: new tasks. Refused whole when the queue would grow over its bound.
-- KEYS    1 the queue's control key
-- ARGV    1 max tasks (0 = no bound)   2 groups and lanes (JSON, as `pushing` says)   3 header   4... payloads
-- RETURNS {'ok', result per task}; {'full', tasks now}
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include finish
-- @include pushing
local bound = tonumber(ARGV[1])
local payloads = {unpack(ARGV, 4)}
if bound > 0 then
  local have = call('HLEN', P .. 'task')
  if have + #payloads > bound then
    C[ROOM] = 1
    save()
    return {'full', num(have)}
  end
end
local names = register(cjson.decode(ARGV[2]))
local results = push(names, ARGV[3], payloads)
flush_lanes()
save_limits()
save()
return {'ok', unpack(results)}
