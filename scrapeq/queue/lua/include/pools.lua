-- pools: limits of which one of several members grants, as an API does to each of several credentials.
--   pool   hash  its name -> its members' names, with NULs between, in the order in which they are used
--   pa     hash  lane -> the place of the member that it used last: the first to be asked
-- A pooled instance has the pool in the place of the member: "core|host,*pool" stands for "core|host,<member>". It
-- stands in a lane whose name begins with '*'. The members of all pooled limits of a lane are one and the same.
-- NEEDS   base, limits
-- GIVES   lane_closed(states, factor, score, weights), pool_of(lane, list) -> pool or nil, the limits that are no
--         pool's; choose(pool, factor, only, score) -> place, or nil, when one opens, the closed ones; take_member(pool, place);
--         states_of(pool, place); members_of(pool name); instances(instance)
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
      if reserve and not (closed.reserve and line_of(closed.reserve) > line_of(reserve)) then closed.reserve = reserve end
    end
  end
  return t, closed
end

local function members_of(name)
  local members = {}
  for member in string.gmatch(call('HGET', P .. 'pool', name) or '', '[^%z]+') do members[#members + 1] = member end
  return members
end

-- The instances that one stands for: a pool's are those of its members.
local function instances(inst)
  local name = string.match(inst, POOL_NAME)
  local members = name and members_of(name) or {}
  if #members == 0 then return {inst} end
  for i = 1, #members do members[i] = of_member(inst, members[i]) end
  return members
end

-- nil when there is no such pool: then its limits are like any others.
local function pool_of(lane, list)
  local plain, pooled, weights, members = {}, {}, {}, nil
  if list.of then plain.at = {} end
  for i = 1, #list do
    local name = string.match(list[i], POOL_NAME)
    if name then
      members = members or members_of(name)
      pooled[#pooled + 1] = list[i]
      weights[#pooled] = list.at and list.at[i]
    else
      plain[#plain + 1] = list[i]
      if plain.at then plain.at[#plain] = list.at[i] end
    end
  end
  if not members or #members == 0 then return nil, list end
  local at = tonumber(call('HGET', P .. 'pa', lane) or '1')
  return {lane = lane, names = pooled, weights = weights, members = members, at = (at - 1) % #members + 1, states = {}}, plain
end

local function states_of(pool, place)
  local states = pool.states[place]
  if not states then
    states = {}
    for i = 1, #pool.names do states[i] = limit_of(of_member(pool.names[i], pool.members[place])) end
    pool.states[place] = states
  end
  return states
end

local function prefetch_members(pool)
  if pool.all then return end
  pool.all = true
  local names = {}
  for place = 1, #pool.members do
    for i = 1, #pool.names do
      local name = of_member(pool.names[i], pool.members[place])
      if not limits[name] then names[#names + 1] = name end
    end
  end
  prefetch_limits(names)
end

-- The first member that grants, from the one used last on. only: this one or none; '' = any.
local function choose(pool, factor, only, score)
  local count, opens, closed = #pool.members, NEVER, {}
  for step = 0, count - 1 do
    local place = (pool.at - 1 + step) % count + 1
    if only == '' or only == pool.members[place] then
      if step == 1 then prefetch_members(pool) end
      local t, c = lane_closed(states_of(pool, place), factor, score, pool.weights)
      if not t then return place end
      opens = min(opens, t)
      for i = 1, #c do closed[#closed + 1] = c[i] end
      closed.reserve = closed.reserve or c.reserve -- the members have the same
    end
  end
  return nil, opens, closed
end

-- It grants: remember it. -> the lane's name in the lease, which says what is charged.
local function take_member(pool, place)
  if pool.at ~= place then
    pool.at = place
    call('HSET', P .. 'pa', pool.lane, fmt('%d', place))
  end
  return pool.lane .. MEMBER_MARK .. pool.members[place]
end
