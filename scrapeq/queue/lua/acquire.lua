-- acquire: grant a request without a task (robots.txt, a redirect hop, a token refresh) by the same limits as a pop.
-- KEYS    1 the queue's control key
-- ARGV    1 groups and lanes (JSON, see `pushing`; one group)   2 weight (multiplies the weights of the group)
--         3 lease (us)   4 the pool's credential to use, or '' for any
-- RETURNS {'ok', id, token, granted (us), the pool's credential or ''}: settle it like a lease; or
--         {'wait', us until it opens; -1 = only an event opens it}
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include pools
-- @include park
-- @include finish
-- @include events
-- @include pushing
local weight, lease = tonumber(ARGV[2]), tonumber(ARGV[3])
local groups = cjson.decode(ARGV[1])
events(500)
local name = register(groups)[1]
local spec = spec_of(name)
local list, pool, index = lane_limits(spec[1]), nil, nil
if string.byte(spec[1]) == POOLED then pool, list = pool_of(spec[1], list) end
local states = {}
for i = 1, #list do states[i] = limit_of(list[i]) end
if spec[2] ~= '' then states[#states + 1] = limit_of(spec[2]) end
local opens = lane_closed(states, weight, ANY, list.at)
if pool and not opens then index, opens = choose(pool, weight, ARGV[4], ANY) end
local reply
if C[PAUSED] == 1 then opens = NEVER end
if opens then
  reply = {'wait', opens < NEVER and num(opens - now) or '-1'}
else
  C[SEQ], C[NONCE] = C[SEQ] + 1, C[NONCE] + 1
  local id, token = uid(C[SEQ]), fmt('%.0f.%.0f', now, C[NONCE])
  local lane, credential = spec[1], ''
  for i = 1, #states do spend(states[i], C[NONCE], weight * (list.at and list.at[i] or 1)) end
  if pool then
    lane, credential = take_credential(pool, index), pool.credentials[index]
    for i, s in ipairs(states_of(pool, index)) do spend(s, C[NONCE], weight * (pool.weights[i] or 1)) end
  end
  local m = read_meta(nil)
  m[LEASE_NONCE], m[TASKLESS] = C[NONCE], 1
  m[TOKEN], m[GRANTED], m[LANE], m[PRIVATE], m[WEIGHT], m[GROUP] = token, now, lane, spec[2], weight, name
  call('HSET', P .. 'meta', id, make_meta(m))
  call('ZADD', P .. 'leased', num(now + lease), id)
  note_event(now + lease)
  C[TASKLESS_LEASES] = C[TASKLESS_LEASES] + 1
  reply = {'ok', id, token, num(now), credential}
end
flush_lanes()
save_limits()
save()
return reply
