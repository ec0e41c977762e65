-- groups: the two levels above the tasks. lanes -> heads:<lane> -> r:<group>.
--   r:<group>      zset  score -priority, member id: the truth of what is ready
--   heads:<lane>   zset  one entry per open, non-empty group, member head id .. group. Its score is that of its head,
--                        in order `fair` the group's turn
--   lanes          zset  one entry per open lane with heads: its first head's score, member head id .. lane
--   turn           hash  order `fair`: non-empty group -> its turn. One that was empty begins at the turn of now, so
--                        that groups that come and go do not starve those that stay
--   lp, gp         zset  parked lanes and groups by opening time (us; inf = an event opens them)
--   g, lane        hash  group -> lane NUL private limit; lane -> its limits, with NULs between, each with its weight
--   below          hash  'L' lane or 'G' group -> '>ddd': closed until then (us) to priorities below a line, which is
--                        a number and a part that is now (0|1). Stale where the time is not that of its park
-- GIVES   spec_of, head_score, ready_add, ready_remove, ready_move, reopen_lane, reopen_group, flush_lanes, wake_limit, recheck_parked
-- NOTE    a script touches lanes through lane_of() before it changes them, and calls flush_lanes() once at the end
local ID = 12 -- length of an id

-- lane and private limit as they are kept: with a NUL between
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

-- The score (text) of a non-empty group among the heads, whose first task has this one.
local function head_score(group, score)
  if C[FAIR] == 0 then return score end
  return call('HGET', P .. 'turn', group) or num(C[TURN])
end

-- Is it a reserve that keeps `who` closed, and may a task of this score use it? parked: its place in lp or gp.
local function above_threshold(waiter, parked, score)
  local raw = call('HGET', P .. 'below', waiter)
  if not raw then return false end
  local t, line, of_now = sunpack('>ddd', raw)
  return t == tonumber(parked) and -score >= line + of_now * now / 1000000
end

local function reopen_lane(name)
  local L = lane_of(name)
  if call('ZREM', P .. 'lp', name) == 1 then
    L.parked, L.entry, L.dirty = nil, nil, true
    armed = true
  end
end

-- A group has a new head in this lane: whoever waits hears of it if the lane is open, or if it opens the lane.
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
        -- not among the heads: the group is parked, and stays so
        first = call('ZREM', L.heads, old[1] .. group) == 1
        local parked = not first and call('ZSCORE', P .. 'gp', group)
        if parked and above_threshold('G' .. group, parked, best_score) then reopen_group(group) end
      elseif not L.parked and not armed then
        -- the head did not change, yet another worker may take this one, unless the group is parked
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

-- Take ids (all of one group) out of what is ready, wherever they stand.
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

-- A ready task gets another score; its group keeps its turn.
local function ready_move(group, id, score)
  local turn = C[FAIR] == 1 and call('HGET', P .. 'turn', group)
  ready_remove(group, {id})
  if turn then call('HSET', P .. 'turn', group, turn) end
  ready_add({[group] = {score, id}})
end

-- Reopen what waits for an event of this limit. What is more than a call may do goes on at the next event.
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

-- What may be open by other rules than those it was closed by is looked at again by the next pop; of very many the
-- longest parked.
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
