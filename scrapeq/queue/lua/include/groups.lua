-- groups: the two index levels above the tasks: lanes -> heads:<lane> -> r:<group>.
--   r:<group>      zset  score -priority, member id: all ready tasks of the group
--   heads:<lane>   zset  one entry per open, non-empty group, member head id .. group. Its score is that of its head;
--                        in order `fair` the group's turn
--   lanes          zset  one entry per open lane with heads: its first head's score, member head id .. lane
--   turn           hash  order `fair`: non-empty group -> its turn. A new group gets the current turn, so that groups
--                        that come and go do not starve those that stay
--   lp, gp         zset  parked lanes and groups by opening time (us; inf = an event opens them)
--   g, lane        hash  group -> lane NUL private limit; lane -> its limits separated by NUL, each with its weight
--   below          hash  'L' lane or 'G' group -> '>ddd': closed until then (us) for priorities below a threshold: the
--                        second value, plus the time if the third is 1. Stale if the time is not that of its park
--   w:<instance>   set   'L' lane or 'G' group that waits for an event of this limit
-- NEEDS   base
-- GIVES   split_spec(raw), spec_of(group) -> {lane, private limit}, lane_of(name), head_score(group, score)
--         ready_add(adds), ready_remove(group, ids), ready_move(group, id, score)
--         above_threshold(waiter, parked, score), head_added(L, lane, score), reopen_lane(name), reopen_group(group)
--         wake_limit(limit), recheck_parked(), flush_lanes()
-- NOTE    a script gets a lane from lane_of() before it changes it, and calls flush_lanes() once at the end
local ID = 12 -- length of an id

-- Split a stored spec: lane and private limit with a NUL between.
local function split_spec(raw)
  if not raw then return {'', ''} end
  local at = string.find(raw, '\0', 1, true)
  return {sub(raw, 1, at - 1), sub(raw, at + 1)}
end

local specs = {}
local function spec_of(group)
  local s = specs[group]
  if not s then
    local raw = call('HGET', P .. 'g', group)
    s = split_spec(raw)
    specs[group] = s
  end
  return s
end

local lanes = {}
local function lane_of(name)
  local L = lanes[name]
  if L then return L end
  L = {heads = P .. 'heads:' .. name, parked = call('ZSCORE', P .. 'lp', name)}
  if not L.parked then
    local head = call('ZRANGE', L.heads, 0, 0)
    if head[1] then L.entry = sub(head[1], 1, ID) .. name end
  end
  lanes[name] = L
  return L
end

local function flush_lanes()
  for name, L in pairs(lanes) do
    if L.dirty then
      L.dirty = nil
      local head = call('ZRANGE', L.heads, 0, 0, 'WITHSCORES')
      local entry = head[1] and not L.parked and sub(head[1], 1, ID) .. name
      if L.entry and L.entry ~= entry then call('ZREM', P .. 'lanes', L.entry) end
      if entry then call('ZADD', P .. 'lanes', head[2], entry) end
      if L.parked and not head[1] then
        call('ZREM', P .. 'lp', name)
        L.parked = nil
      end
      L.entry = entry or nil
    end
  end
end

-- Return the score (text) of a non-empty group among the heads, given the score of its first task.
local function head_score(group, score)
  if C[FAIR] == 0 then return score end
  return call('HGET', P .. 'turn', group) or num(C[TURN])
end

-- Return whether only a reserve closes the waiter, and a task of this score may use it. parked: its score in lp or gp.
local function above_threshold(waiter, parked, score)
  local raw = call('HGET', P .. 'below', waiter)
  if not raw then return false end
  local t, threshold, of_now = sunpack('>ddd', raw)
  return t == tonumber(parked) and -score >= threshold + of_now * now / 1000000
end

local function reopen_lane(name)
  local L = lane_of(name)
  if call('ZREM', P .. 'lp', name) == 1 then
    L.parked, L.entry, L.dirty = nil, nil, true
    armed = true
  end
end

-- A group has a new head in this lane. Wake a waiter if the lane is open, or if the head opens it.
local function head_added(L, lane, score)
  if L.parked and above_threshold('L' .. lane, L.parked, tonumber(score)) then reopen_lane(lane) end
  if not L.parked then armed = true end
end

local function reopen_group(group)
  if call('ZREM', P .. 'gp', group) == 1 then
    local head = call('ZRANGE', P .. 'r:' .. group, 0, 0, 'WITHSCORES')
    if head[1] then
      local lane = spec_of(group)[1]
      local L = lane_of(lane)
      call('ZADD', L.heads, head_score(group, head[2]), head[1] .. group)
      L.dirty = true
      head_added(L, lane, head[2])
    end
  end
end

-- adds: group -> {score, id, score, id, ...} (scores as text, exact)
local function ready_add(adds)
  local heads = {} -- heads' key -> {score, member, ...}
  for group, a in pairs(adds) do
    local L = lane_of(spec_of(group)[1])
    local key = P .. 'r:' .. group
    local old = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    local best_score, best_id = tonumber(a[1]), a[2]
    local best_text = a[1]
    for i = 3, #a, 2 do
      local s = tonumber(a[i])
      if s < best_score or (s == best_score and a[i + 1] < best_id) then
        best_score, best_id, best_text = s, a[i + 1], a[i]
      end
    end
    in_pieces('ZADD', key, a, 2)
    local first = false
    if not old[1] then
      first = true
      if C[FAIR] == 1 then call('HSETNX', P .. 'turn', group, num(C[TURN])) end
    else
      local old_score = tonumber(old[2])
      if best_score < old_score or (best_score == old_score and best_id < old[1]) then
 -- not among the heads: the group is parked and stays so
        first = call('ZREM', L.heads, old[1] .. group) == 1
        local parked = not first and call('ZSCORE', P .. 'gp', group)
        if parked and above_threshold('G' .. group, parked, best_score) then reopen_group(group) end
      elseif not L.parked and not armed then
 -- the head is the same, but another worker may take this task unless the group is parked
        armed = call('ZSCORE', P .. 'gp', group) == false
      end
    end
    if first then
      local h = heads[L.heads]
      if not h then
        h = {}
        heads[L.heads] = h
      end
      h[#h + 1], h[#h + 2] = head_score(group, best_text), best_id .. group
      L.dirty = true
      head_added(L, spec_of(group)[1], best_score)
    end
  end
  for key, h in pairs(heads) do in_pieces('ZADD', key, h, 2) end
end

-- Remove ids (all of one group) from the ready tasks and the indexes above.
local function ready_remove(group, ids)
  local L = lane_of(spec_of(group)[1])
  local key = P .. 'r:' .. group
  local old = call('ZRANGE', key, 0, 0)[1]
  in_pieces('ZREM', key, ids, 1)
  local head = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if old and head[1] ~= old then
    local open = call('ZREM', L.heads, old .. group) == 1
    if head[1] then
      if open then call('ZADD', L.heads, head_score(group, head[2]), head[1] .. group) end
    else
      call('ZREM', P .. 'gp', group)
      if C[FAIR] == 1 then call('HDEL', P .. 'turn', group) end
    end
    L.dirty = true
  end
end

-- Give a ready task another score; its group keeps its turn.
local function ready_move(group, id, score)
  local turn = C[FAIR] == 1 and call('HGET', P .. 'turn', group)
  ready_remove(group, {id})
  if turn then call('HSET', P .. 'turn', group, turn) end
  ready_add({[group] = {score, id}})
end

-- Reopen the lanes and groups that wait for an event of this limit; beyond the maximum, the next event continues.
local WAKE_MAX = 200
local function wake_limit(limit)
  local key = P .. 'w:' .. limit
  local members = call('SPOP', key, WAKE_MAX)
  for i = 1, #members do
    local name = sub(members[i], 2)
    if sub(members[i], 1, 1) == 'L' then reopen_lane(name) else reopen_group(name) end
  end
  if #members == WAKE_MAX and call('EXISTS', key) == 1 then
    call('ZADD', P .. 'lp', num(now), '\0' .. limit)
    note_event(now)
  end
end

-- Let the next pop check all parked lanes and groups, because limits have changed; of very many, the longest parked.
local RECHECK_MAX = 1000
local function recheck_parked()
  for _, zset in ipairs({'lp', 'gp'}) do
    local parked = call('ZREVRANGE', P .. zset, 0, RECHECK_MAX - 1)
    local args = {}
    for i = 1, #parked do args[i * 2 - 1], args[i * 2] = num(now), parked[i] end
    if #args > 0 then call('ZADD', P .. zset, unpack(args)) end
  end
  note_event(now)
  arm()
end
