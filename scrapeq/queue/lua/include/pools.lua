-- pools: limits of which one of several members grants, as an API does to each of several credentials.
--   pool   hash  its name -> its members' names, with NULs between, in the order in which they are used
--   pa     hash  lane -> the place of the member that it used last: the first to be asked
-- A pooled instance has the pool in the place of the member: "core|host,*pool" stands for "core|host,<member>". It
-- stands in a lane whose name begins with '*'. The members of all pooled limits of a lane are one and the same.
-- NEEDS   base, limits
-- GIVES   lane_closed(states, factor, score, weights), pool_of(lane, list) -> pool or nil, the limits that are no
--         pool's; choose(pool, factor, only, score) -> place, or nil, when one opens, the closed ones; take_credential(pool, place);
--         states_of(pool, place); credentials_of(pool name); instances(instance)
local POOL_NAME = '%*([%w_-]*)'

-- Which limits of a list are closed to a task of this score (the factor times what it weighs there), {state, what may
-- open it, ...; reserve: the one with the highest line}, and when all of them are open again.
local function lane_closed(states, factor, score, weights)
  local t, closed
  for i = 1, #states do
    local opens, by, reserve = check(states[i], factor * (weights and weights[i] or 1), score)
    if opens then
      closed = closed or {}
      t = max(t or 0, opens)
      closed[#closed + 1], closed[#closed + 2] = states[i], by
      if reserve and not (closed.reserve and threshold_of(closed.reserve) > threshold_of(reserve)) then closed.reserve = reserve end
    end
  end
  return t, closed
end

local function credentials_of(name)
  local credentials = {}
  for credential in string.gmatch(call('HGET', P .. 'pool', name) or '', '[^%z]+') do credentials[#credentials + 1] = credential end
  return credentials
end

-- The instances that one stands for: a pool's are those of its members.
local function instances(inst)
  local name = string.match(inst, POOL_NAME)
  local credentials = name and credentials_of(name) or {}
  if #credentials == 0 then return {inst} end
  for i = 1, #credentials do credentials[i] = of_credential(inst, credentials[i]) end
  return credentials
end

-- nil when there is no such pool: then its limits are like any others.
local function pool_of(lane, list)
  local plain, pooled, weights, credentials = {}, {}, {}, nil
  if list.of then plain.at = {} end
  for i = 1, #list do
    local name = string.match(list[i], POOL_NAME)
    if name then
      credentials = credentials or credentials_of(name)
      pooled[#pooled + 1] = list[i]
      weights[#pooled] = list.at and list.at[i]
    else
      plain[#plain + 1] = list[i]
      if plain.at then plain.at[#plain] = list.at[i] end
    end
  end
  if not credentials or #credentials == 0 then return nil, list end
  local at = tonumber(call('HGET', P .. 'pa', lane) or '1')
  return {lane = lane, names = pooled, weights = weights, credentials = credentials, at = (at - 1) % #credentials + 1, states = {}}, plain
end

local function states_of(pool, index)
  local states = pool.states[index]
  if not states then
    states = {}
    for i = 1, #pool.names do states[i] = limit_of(of_credential(pool.names[i], pool.credentials[index])) end
    pool.states[index] = states
  end
  return states
end

local function prefetch_credentials(pool)
  if pool.all then return end
  pool.all = true
  local names = {}
  for index = 1, #pool.credentials do
    for i = 1, #pool.names do
      local name = of_credential(pool.names[i], pool.credentials[index])
      if not limits[name] then names[#names + 1] = name end
    end
  end
  prefetch_limits(names)
end

-- The first member that grants, from the one used last on. only: this one or none; '' = any.
local function choose(pool, factor, only, score)
  local count, opens, closed = #pool.credentials, NEVER, {}
  for step = 0, count - 1 do
    local index = (pool.at - 1 + step) % count + 1
    if only == '' or only == pool.credentials[index] then
      if step == 1 then prefetch_credentials(pool) end
      local t, c = lane_closed(states_of(pool, index), factor, score, pool.weights)
      if not t then return index end
      opens = min(opens, t)
      for i = 1, #c do closed[#closed + 1] = c[i] end
      closed.reserve = closed.reserve or c.reserve -- the members have the same
    end
  end
  return nil, opens, closed
end

-- It grants: remember it. -> the lane's name in the lease, which says what is charged.
local function take_credential(pool, index)
  if pool.at ~= index then
    pool.at = index
    call('HSET', P .. 'pa', pool.lane, fmt('%d', index))
  end
  return pool.lane .. CREDENTIAL_MARK .. pool.credentials[index]
end
