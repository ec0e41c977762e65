-- steer: change limits, groups and the queue for an operator or a plan.
-- KEYS    1 the queue's control key
-- ARGV    1 verb   then by verb:
--         define  2 JSON {name: [version, max_concurrency, learn, rate..., options], ...}, see `limits`
--                 3 '1': also replace a higher version
--         park    2 us   3... instances      unpark  2... instances
--         pause   2... instances             resume  2... instances   (keeps waits stated by the server)
--         pause_queue   resume_queue         (hand out no tasks)
--         unwatch                            the designated waiter is gone; another one takes over
--         pools   2 JSON {pool: [credential, ...], ...}
--         retire  2 pool  3 credential       stop using it
--         order   2 strict or fair, or '' to read it
--         forget  2... instances             their state; definitions stay
--         group   2 group name               ensure that it has its own limit, which can be parked
--         An instance of a pool stands for those of all its credentials.
-- RETURNS {'ok'}; retire: {'ok', remaining credentials; the last one stays}; group: {'ok', private instance};
--         order: {'ok', current order}, or {'queued', current order, groups (count)} if too many groups have
--         tasks to change it
-- @include base
-- @include groups
-- @include limits
-- @include pools
local verb = ARGV[1]
local SWITCH_MAX = 1000 -- groups whose order one call can change

-- Give every head the score of the other order.
local function change_order(fair)
  local groups = call('HLEN', P .. 'g') <= SWITCH_MAX and call('HKEYS', P .. 'g') or {}
  C[FAIR] = fair
  call('UNLINK', P .. 'turn')
  for i = 1, #groups do
    local name = groups[i]
    local head = call('ZRANGE', P .. 'r:' .. name, 0, 0, 'WITHSCORES')
    if head[1] then
      local L = lane_of(spec_of(name)[1])
      if fair == 1 then call('HSET', P .. 'turn', name, num(C[TURN])) end
      call('ZADD', L.heads, 'XX', head_score(name, head[2]), head[1] .. name)
      L.dirty = true
    end
  end
end

local function each_limit(from, fn)
  for i = from, #ARGV do
    for _, inst in ipairs(instances(ARGV[i])) do
      local s = limit_of(inst)
      fn(s)
      s[DIRTY] = true
    end
  end
end

local function set_pool(name, credentials)
  local text = table.concat(credentials, '\0')
  if call('HGET', P .. 'pool', name) ~= text then
    call('HSET', P .. 'pool', name, text)
    recheck_parked()
  end
end

-- Return a definition without the time of its last change.
local function without_since(d)
  local last = d[#d]
  if type(last) == 'table' and not last[1] then
    last.since = nil
    if not next(last) then d[#d] = nil end
  end
  return d
end

local reply = {'ok'}
if verb == 'define' then
  local changed = false
  for name, d in pairs(cjson.decode(ARGV[2])) do
    local raw = call('HGET', P .. 'ld', name)
    local old = raw and without_since(munpack(raw))
    if not old or old[1] <= d[1] or ARGV[3] == '1' then
      if not old or mpack(old) ~= mpack(d) then
        if old then
          local last = d[#d]
          if type(last) == 'table' and not last[1] then last.since = now else d[#d + 1] = {since = now} end
        end
        call('HSET', P .. 'ld', name, mpack(d))
        changed = changed or old
      end
    end
  end
  if changed then recheck_parked() end
elseif verb == 'park' then
  local t = now + tonumber(ARGV[2])
  each_limit(3, function(s) park_until(s, t) end)
elseif verb == 'unpark' then
  each_limit(2, function(s)
    s[PARKED_UNTIL], s[PROBATION], s[PROBE], s[PROBE_AFTER], s[REMAINING], s[CONSECUTIVE_REFUSALS] = 0, 0, 0, 0, -1, 0
    s[HIGHEST_REMAINING] = 0
    wake_waiters(s, BY_REFUND)
  end)
elseif verb == 'pause' then
  each_limit(2, function(s) s[LIMIT_PAUSED] = 1 end)
elseif verb == 'resume' then
  each_limit(2, function(s)
    s[LIMIT_PAUSED] = 0
    wake_waiters(s, BY_REFUND)
  end)
elseif verb == 'pause_queue' then
  C[PAUSED] = 1
elseif verb == 'resume_queue' then
  C[PAUSED] = 0
  arm()
elseif verb == 'pools' then
  for name, credentials in pairs(cjson.decode(ARGV[2])) do set_pool(name, credentials) end
elseif verb == 'retire' then
  local credentials, left = credentials_of(ARGV[2]), {}
  for i = 1, #credentials do if credentials[i] ~= ARGV[3] then left[#left + 1] = credentials[i] end end
  if #left > 0 then set_pool(ARGV[2], left) else left = credentials end
  for i = 1, #left do reply[i + 1] = left[i] end
elseif verb == 'order' then
  local fair = ARGV[2] == 'fair' and 1 or 0
  local known = call('HLEN', P .. 'g')
  if ARGV[2] ~= '' and fair ~= C[FAIR] then
    local waiting = call('EXISTS', P .. 'lanes', P .. 'lp', P .. 'gp') > 0
    if waiting and known > SWITCH_MAX then reply = {'queued', '', num(known)} else change_order(fair) end
  end
  reply[2] = C[FAIR] == 1 and 'fair' or 'strict'
elseif verb == 'unwatch' then
  C[WATCH_UNTIL] = 0
  arm()
elseif verb == 'forget' then
  for i = 2, #ARGV do
    for _, inst in ipairs(instances(ARGV[i])) do forget_limit(limit_of(inst)) end
  end
  recheck_parked()
elseif verb == 'group' then
  local spec = spec_of(ARGV[2])
  if spec[2] == '' then
    spec = {spec[1], '@' .. ARGV[2]}
    call('HSET', P .. 'g', ARGV[2], spec[1] .. '\0' .. spec[2])
  end
  reply[2] = spec[2]
end
flush_lanes()
save_limits()
save()
return reply
