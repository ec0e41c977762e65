-- pools: limits that an API applies to each of several credentials, one of which has to grant.
--   pool   hash  name -> its credentials' names, separated by NUL, in the order of their use
--   pa     hash  lane -> index of the credential that it used last, which is the first to try
-- A pooled instance names the pool in place of a credential: "core|host,*pool" stands for "core|host,<credential>". It
-- belongs to a lane whose name begins with '*'. All pooled limits of a lane share one pool.
-- NEEDS   base, limits
-- GIVES   lane_closed(states, factor, score, weights) -> when it opens or nil, the closed limits
--         pool_of(lane, list) -> pool or nil, the limits without a pool
--         choose(pool, factor, only, score) -> index, or nil, when one opens, the closed limits
--         take_credential(pool, index) -> the lane's name in the lease; states_of(pool, index)
--         credentials_of(pool name); instances(instance); prefetch_credentials(pool)
local POOL_NAME = '%*([%w_-]*)'

-- Return nil if all limits of a list are open to a task of this score, which weighs the factor times the weights. Else
-- when all of them are open again, and the closed ones: {state, the kind of event that may open it sooner, ...;
-- reserve: the one with the highest threshold}.
local function lane_closed(states, factor, score, weights)
  local t, closed
  for i = 1, #states do
    local opens, by, reserve = check(states[i], factor * (weights and weights[i] or 1), score)
    if opens then
      closed = closed or {}
      t = max(t or 0, opens)
      closed[#closed + 1], closed[#closed + 2] = states[i], by
      if reserve and not (closed.reserve and threshold_of(closed.reserve) > threshold_of(reserve)) then
        closed.reserve = reserve
      end
    end
  end
  return t, closed
end

local function credentials_of(name)
  local credentials = {}
  for credential in string.gmatch(call('HGET', P .. 'pool', name) or '', '[^%z]+') do
    credentials[#credentials + 1] = credential
  end
  return credentials
end

-- Return the instances that one stands for: with a pool, those of its credentials.
local function instances(inst)
  local name = string.match(inst, POOL_NAME)
  local credentials = name and credentials_of(name) or {}
  if #credentials == 0 then return {inst} end
  for i = 1, #credentials do credentials[i] = of_credential(inst, credentials[i]) end
  return credentials
end

-- Return nil if the pool does not exist; then its limits are ordinary ones.
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
  at = (at - 1) % #credentials + 1
  return {lane = lane, names = pooled, weights = weights, credentials = credentials, at = at, states = {}}, plain
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

-- Return the first credential that grants, beginning with the one used last. only: restrict it to this one; '' = any.
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
      closed.reserve = closed.reserve or c.reserve -- the same for all credentials
    end
  end
  return nil, opens, closed
end

-- Store the credential that grants. Return the lane's name in the lease, which states what is charged.
local function take_credential(pool, index)
  if pool.at ~= index then
    pool.at = index
    call('HSET', P .. 'pa', pool.lane, fmt('%d', index))
  end
  return pool.lane .. CREDENTIAL_MARK .. pool.credentials[index]
end
