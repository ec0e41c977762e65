-- select: take the best tasks over all open lanes and groups, by (score, id), that every limit grants now. The score is
--         the task's; in order `fair` it is its group's turn, which moves behind all others when the group is served.
-- NEEDS   base, records, groups, limits, pools, take, park
-- GIVES   select_tasks(n, held_suspects) -> touched groups, whether there may be more; it takes the tasks
--         apply_groups(touched): removes the taken tasks from the indexes
-- LOCAL   heap_push, heap_pop, stream, prefetch_page, next_of, push_lane, push_head, push_task, group_closed, open_lane
-- HOW     three kinds of streams are merged lazily in one heap: lanes -> heads of a lane -> tasks of a group. A closed
--         shared limit drops its lane's stream, a closed private limit drops its group's.
local CLOSURES = 128 -- lanes and groups closed in one call, at most
local PAGE, PAGE_GROWTH, PAGE_MAX = 4, 4, 128
local TASK_PAGE = 2 -- the head and its successor
local SUSPECT_DELAY = 100000 -- us until a suspect that this worker may not take is offered again

-- A heap item is {score, id, lane, group}: an unread lane (lane: its name), the next head of a lane (group: its name),
-- or the next task of a group (group: a table). They are arrays because thousands of them are made.
local SCORE, ITEM_ID, ITEM_LANE, ITEM_GROUP = 1, 2, 3, 4
local heap, size = {}, 0

local function heap_push(score, id, lane, group)
  size = size + 1
  local i = size
  while i > 1 do
    local p = (i - i % 2) / 2
    local up = heap[p]
    if up[SCORE] < score or (up[SCORE] == score and up[ITEM_ID] < id) then break end
    heap[i] = up
    i = p
  end
  heap[i] = {score, id, lane, group}
end

local function heap_pop()
  local top, last = heap[1], heap[size]
  heap[size] = nil
  size = size - 1
  if size == 0 then return top end
  local score, id = last[SCORE], last[ITEM_ID]
  local i = 1
  while true do
    local l = i * 2
    if l > size then break end
    local a, b = heap[l], heap[l + 1]
    if b and (b[SCORE] < a[SCORE] or (b[SCORE] == a[SCORE] and b[ITEM_ID] < a[ITEM_ID])) then
      l, a = l + 1, b
    end
    if score < a[SCORE] or (score == a[SCORE] and id < a[ITEM_ID]) then break end
    heap[i] = a
    i = l
  end
  heap[i] = last
  return top
end

-- A stream over a zset, read in growing pages: {key, from, page size, index of the next in the buffer, buffer, ended}
local S_KEY, S_FROM, S_SIZE, S_NEXT, S_BUFFER, S_ENDED = 1, 2, 3, 4, 5, 6
local EMPTY = {}
local function stream(key, page) return {key, 0, page, 1, EMPTY, false} end

-- Read the private limits of a page of a lane's heads, and then their states, each in one command.
local private_of = {}
local function prefetch_page(page, lane)
  local names_of_groups, after = {}, #lane + 2 -- a group's spec is stored as lane NUL private limit
  for i = 1, #page, 2 do names_of_groups[#names_of_groups + 1] = sub(page[i], ID + 1) end
  local raw = call('HMGET', P .. 'g', unpack(names_of_groups))
  local names = {}
  for i = 1, #names_of_groups do
    local name = raw[i] and sub(raw[i], after) or ''
    private_of[names_of_groups[i]] = name
    if name ~= '' and not limits[name] then names[#names + 1] = name end
  end
  prefetch_limits(names)
end

-- Return member and score (text); nil at the end. Reads no more than may be needed.
local needed = 1
local function next_of(s, lane)
  local at, buffer = s[S_NEXT], s[S_BUFFER]
  local member = buffer[at]
  if not member then
    if s[S_ENDED] then return nil end
    local page = min(s[S_SIZE], needed)
    buffer = call('ZRANGE', s[S_KEY], s[S_FROM], s[S_FROM] + page - 1, 'WITHSCORES')
    s[S_BUFFER], s[S_ENDED] = buffer, #buffer < page * 2
    s[S_FROM], s[S_SIZE] = s[S_FROM] + page, min(s[S_SIZE] * PAGE_GROWTH, PAGE_MAX)
    at, member = 1, buffer[1]
    if not member then return nil end
    if lane then prefetch_page(buffer, lane) end
  end
  s[S_NEXT] = at + 2
  return member, buffer[at + 1]
end

local function push_lane(lanes_stream)
  local member, score = next_of(lanes_stream)
  if member then heap_push(tonumber(score), sub(member, 1, ID), sub(member, ID + 1), nil) end
end

local function push_head(lane)
  local member, score = next_of(lane.stream, lane.name)
  if member then heap_push(tonumber(score), sub(member, 1, ID), lane, sub(member, ID + 1)) end
end

-- A group whose tasks are being selected is a stream of its tasks with more fields.
local G_NAME, G_LANE, G_HEAD, G_COUNT, G_PRIVATE, G_LIMIT = 7, 8, 9, 10, 11, 12
local G_NEXT, G_NEXT_SCORE, G_CLOSED, G_OPENS, G_BLOCKERS, G_TURN = 13, 14, 15, 16, 17, 18

local function push_task(g)
  local id, score = next_of(g)
  g[G_NEXT], g[G_NEXT_SCORE] = id or false, score
  if id then heap_push(g[G_TURN] or tonumber(score), id, g[G_LANE], g) end
end

-- Check the group's own limit; in order `fair` also what the reserves of the lane's limits withhold from its best task,
-- for which another credential of the pool may grant. Return when it opens, the closed limits, the credential's index.
local function group_closed(g, lane, fair, score, index)
  if fair then
    score = tonumber(g[G_NEXT_SCORE])
    if lane.reserves then
      local states = {unpack(lane.states)}
      if g[G_LIMIT] then states[#states + 1] = g[G_LIMIT] end
      local t, closed = lane_closed(states, 1, score, lane.weights)
      if lane.pool and not t then index, t, closed = choose(lane.pool, 1, '', score) end
      if t then closed.shared = true end
      return t, closed, index
    end
  end
  if not g[G_LIMIT] then return nil, nil, index end
  local opens, by, reserve = check(g[G_LIMIT], 1, score)
  if opens then return opens, {g[G_LIMIT], by, reserve = reserve} end
  return nil, nil, index
end

local function open_lane(name, page)
  local list, pool = lane_limits(name), nil
  if string.byte(name) == POOLED then pool, list = pool_of(name, list) end
  prefetch_limits(list)
  local states = {}
  local reserves = false
  for i = 1, #list do
    states[i] = limit_of(list[i])
    reserves = reserves or states[i][DEF].reserve
  end
  for i = 1, pool and #pool.names or 0 do reserves = reserves or definition_of(pool.names[i]).reserve end
  return {name = name, states = states, weights = list.at, reserves = reserves, pool = pool,
          stream = stream(P .. 'heads:' .. name, page)}
end

local closed_lanes = {}

local function select_tasks(n, held_suspects)
  local touched, closures = {}, 0
  local page = n > 1 and PAGE or 1
  local all = stream(P .. 'lanes', page)
  needed = n
  push_lane(all)
  while taken < n and size > 0 and closures < CLOSURES do
    local item = heap_pop()
    local id, lane, g = item[ITEM_ID], item[ITEM_LANE], item[ITEM_GROUP]
    if not g then
      push_lane(all)
      push_head(open_lane(lane, page))
    elseif not lane.closed then
      -- In order `fair`, the first in turn may not be the lane's best task, so a reserve closes only its group.
      local fair = C[FAIR] == 1
      local score = fair and ANY or item[SCORE]
      local t, closed = lane_closed(lane.states, 1, score, lane.weights)
      local pool, index = lane.pool, nil
      if pool and not t then index, t, closed = choose(pool, 1, '', score) end
      if t then
        lane.closed, lane.opens, lane.blockers = true, t, closed
        closures = closures + 1
        closed_lanes[#closed_lanes + 1] = lane -- parked at the end, because the streams read by rank
      else
        if type(g) == 'string' then
          push_head(lane)
          local private = private_of[g]
          g = {P .. 'r:' .. g, 0, TASK_PAGE, 1, EMPTY, false, g, lane, id, 0,
               private, private ~= '' and limit_of(private), false, false, false, false, false,
               C[FAIR] == 1 and item[SCORE]}
          local _, first = next_of(g) -- the head itself
          g[G_NEXT_SCORE] = first
          touched[#touched + 1] = g
        end
        local opens, blockers
        opens, blockers, index = group_closed(g, lane, fair, item[SCORE], index)
        if opens then
          closures = closures + 1
          g[G_CLOSED], g[G_OPENS], g[G_BLOCKERS] = true, opens, blockers
        else
          local suspect = C[SUSPECTS] > 0 and call('SISMEMBER', P .. 'suspects', id) == 1
          g[G_COUNT] = g[G_COUNT] + 1
          if suspect and held_suspects > 0 then
            closures = closures + 1 -- the same bound limits the suspects that are put back
            call('ZADD', P .. 'delayed', num(now + SUSPECT_DELAY), id)
            note_event(now + SUSPECT_DELAY, true)
          else
            if suspect then held_suspects = held_suspects + 1 end
            if pool then
              take(id, take_credential(pool, index), g[G_PRIVATE], lane.states, g[G_LIMIT], lane.weights,
                   states_of(pool, index), pool.weights)
              name_credential(pool.credentials[index])
            else
              take(id, lane.name, g[G_PRIVATE], lane.states, g[G_LIMIT], lane.weights)
            end
            if g[G_TURN] then
              C[TURN] = C[TURN] + 1
              g[G_TURN] = C[TURN]
            end
            needed = max(1, n - taken)
          end
          push_task(g)
        end
      end
    end
  end
  return touched, size > 0
end

local function apply_groups(touched)
  local gone, heads = {}, {}
  local turns, ended = {}, {}
  for i = 1, #touched do
    local g = touched[i]
    local name, count = g[G_NAME], g[G_COUNT]
    local L = lane_of(g[G_LANE].name)
    if count > 0 then call('ZREMRANGEBYRANK', g[S_KEY], 0, count - 1) end
    local score = g[G_NEXT_SCORE]
    if g[G_TURN] and count > 0 then
      score = num(g[G_TURN])
      if g[G_NEXT] then turns[#turns + 1], turns[#turns + 2] = name, score else ended[#ended + 1] = name end
    end
    if count > 0 or g[G_CLOSED] then
      local key = L.heads
      local out = gone[key]
      if not out then
        out = {}
        gone[key], heads[key] = out, {}
      end
      out[#out + 1] = g[G_HEAD] .. name
      if g[G_CLOSED] then
        park_group(name, g[G_OPENS], g[G_BLOCKERS])
      elseif g[G_NEXT] then
        local h = heads[key]
        h[#h + 1], h[#h + 2] = score, g[G_NEXT] .. name
      end
      L.dirty = true
    end
  end
  for key, members in pairs(gone) do in_pieces('ZREM', key, members, 1) end
  for key, members in pairs(heads) do in_pieces('ZADD', key, members, 2) end
  in_pieces('HSET', P .. 'turn', turns, 2)
  in_pieces('HDEL', P .. 'turn', ended, 1)
  for i = 1, #closed_lanes do
    local lane = closed_lanes[i]
    park_lane(lane.name, lane.opens, lane.blockers)
  end
end
