-- steer: what a person or a plan says of limits, groups and the queue.
-- KEYS    1 the queue's control key
-- ARGV    1 verb   then by verb:
--         define  2 JSON {name: [version, max_concurrency, learn, [limit, interval us, burst], ...], ...}
--         park    2 us   3... instances      unpark  2... instances
--         pause   2... instances             resume  2... instances       (a pause is a person's; no told wait is lifted)
--         pause_queue   resume_queue
--         forget  2... instances (their state; a definition stays)
--         group   2 group name: makes sure it has a limit of its own that can be parked
-- RETURNS {'ok'}; group: {'ok', private instance}
-- @include base
-- @include groups
-- @include limits
local REOPEN = 1000 -- parked entries looked at again in one call
local verb = ARGV[1]

-- What a change may have opened is looked at again by the next pop.
local function look_again()
  for _, zset in ipairs({'lp', 'gp'}) do
    local parked = call('ZREVRANGE', P .. zset, 0, REOPEN - 1)
    local args = {}
    for i = 1, #parked do args[i * 2 - 1], args[i * 2] = num(now), parked[i] end
    if #args > 0 then call('ZADD', P .. zset, unpack(args)) end
  end
  note_event(now)
  arm()
end

local function each_limit(from, fn)
  for i = from, #ARGV do
    local s = limit_of(ARGV[i])
    fn(s)
    s.dirty = true
  end
end

local reply = {'ok'}
if verb == 'define' then
  local changed = false
  for name, d in pairs(cjson.decode(ARGV[2])) do
    local raw = call('HGET', P .. 'ld', name)
    local old = raw and munpack(raw)
    if not old or old[1] <= d[1] then
      if raw ~= mpack(d) then
        call('HSET', P .. 'ld', name, mpack(d))
        changed = changed or old
      end
    end
  end
  if changed then look_again() end
elseif verb == 'park' then
  each_limit(3, function(s)
    s[PARK] = max(s[PARK], now + tonumber(ARGV[2]))
    s[NEED] = 1
  end)
elseif verb == 'unpark' then
  each_limit(2, function(s)
    s[PARK], s[NEED], s[PID], s[PAFTER], s[REM], s[STREAK], s[CAP] = 0, 0, '', 0, -1, 0, UNKNOWN_CAP
  end)
  look_again()
elseif verb == 'pause' then
  each_limit(2, function(s) s[PAUSE] = 1 end)
elseif verb == 'resume' then
  each_limit(2, function(s) s[PAUSE] = 0 end)
  look_again()
elseif verb == 'pause_queue' then
  C[PAUSED] = 1
elseif verb == 'resume_queue' then
  C[PAUSED] = 0
  look_again()
elseif verb == 'forget' then
  for i = 2, #ARGV do
    local s = limit_of(ARGV[i])
    local fly = s[FLY]
    call('HDEL', P .. 'l', ARGV[i])
    for r = 1, 4 do call('HDEL', P .. 's', ARGV[i] .. '#' .. r) end
    limits[ARGV[i]] = nil
    if fly > 0 then -- what is in flight still counts
      local fresh = limit_of(ARGV[i])
      fresh[FLY], fresh.dirty = fly, true
    end
  end
  look_again()
elseif verb == 'group' then
  local spec = spec_of(ARGV[2])
  if spec[2] == '' then
    spec = {spec[1], '@' .. ARGV[2]}
    call('HSET', P .. 'g', ARGV[2], mpack(spec))
  end
  reply[2] = spec[2]
end
save_limits()
save()
return reply
