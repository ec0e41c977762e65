-- acquire: a grant without a task (robots.txt, a redirect hop, a token refresh), by the same limits as a pop.
-- KEYS    1 the queue's control key
-- ARGV    1 groups and lanes (JSON; one group)   2 weight   3 lease (us)
-- RETURNS {'ok', id, token, granted (us)}: settle it as a lease; {'wait', us; -1 = only an event}
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include park
-- @include finish
-- @include events
-- @include pushing
local weight, lease = tonumber(ARGV[2]), tonumber(ARGV[3])
local groups = cjson.decode(ARGV[1])
events(500)
local name = register(groups)[1]
local spec = spec_of(name)
local list = {unpack(lane_limits(spec[1]))}
if spec[2] ~= '' then list[#list + 1] = spec[2] end
local opens
for i = 1, #list do
  local t = check(limit_of(list[i]), weight)
  if t then opens = max(opens or 0, t) end
end
local reply
if C[PAUSED] == 1 then opens = NEVER end
if opens then
  reply = {'wait', opens < NEVER and num(opens - now) or '-1'}
else
  C[SEQ], C[NONCE] = C[SEQ] + 1, C[NONCE] + 1
  local id, token = uid(C[SEQ]), fmt('%.0f.%.0f', now, C[NONCE])
  for i = 1, #list do spend(limit_of(list[i]), C[NONCE], weight) end
  local m = read_meta(nil)
  m[NONCE_OF], m[TASKLESS] = C[NONCE], 1
  m[TOKEN], m[GRANTED], m[LANE], m[PRIVATE], m[WEIGHT], m[GROUP] = token, now, spec[1], spec[2], weight, name
  call('HSET', P .. 'meta', id, make_meta(m))
  call('ZADD', P .. 'leased', num(now + lease), id)
  note_event(now + lease)
  C[GRANTS] = C[GRANTS] + 1
  reply = {'ok', id, token, num(now)}
end
flush_lanes()
save_limits()
save()
return reply
