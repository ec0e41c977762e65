-- push: push new tasks; all of them are rejected if the queue would exceed its bound.
-- KEYS    1 the queue's control key
-- ARGV    1 max tasks (0 = unlimited)   2 groups and lanes (JSON, see `pushing`)   3 header   4... payloads
-- RETURNS {'ok', result per task}; or {'full', number of tasks}
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include finish
-- @include pushing
local bound = tonumber(ARGV[1])
local FIRST = 4
local spec = cjson.decode(ARGV[2])
local heads = read_heads(ARGV[3], #ARGV - FIRST + 1, #spec[2])
if bound > 0 then
  local have = call('HLEN', P .. 'task') - call('ZCARD', P .. 'dead') -- dead letters do not count
  if have + #heads > bound then
    C[ROOM_WAITERS] = 1
    save()
    return {'full', num(have)}
  end
end
local reply = {'ok'}
push(register(spec), heads, FIRST, reply, 1)
flush_lanes()
save_limits()
save()
return reply
