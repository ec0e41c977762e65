-- select: the best tasks over all open lanes and groups, by (score, id), that every limit grants now.
-- NEEDS   base, records, groups, limits, park
-- GIVES   select_tasks(n, held) -> taken {id, token, lane, private}, touched groups; spends their grants
-- HOW     three streams merged lazily in one heap: lanes -> heads of a lane -> tasks of a group. A closed shared limit
--         drops its lane's stream, a closed private one its group.
local CLOSURES = 256                      -- lanes and groups closed in one call, at most
local PAGE, PAGE_GROWTH, PAGE_MAX = 4, 4, 128
local TASK_PAGE = 2                       -- the head and its successor
local SUSPECT_DELAY = 100000              -- us until a suspect that this worker may not take is offered again

local heap = {}
local function before(a, b)
  return a.score < b.score or (a.score == b.score and a.id < b.id)
end

local function heap_push(x)
  local i = #heap + 1
  heap[i] = x
  while i > 1 do
    local p = floor(i / 2)
    if not before(heap[i], heap[p]) then break end
    heap[i], heap[p] = heap[p], heap[i]
    i = p
  end
end

local function heap_pop()
  local top, last = heap[1], #heap
  heap[1] = heap[last]
  heap[last] = nil
  local i, n = 1, last - 1
  while true do
    local l = i * 2
    if l > n then break end
    if l < n and before(heap[l + 1], heap[l]) then l = l + 1 end
    if not before(heap[l], heap[i]) then break end
    heap[i], heap[l] = heap[l], heap[i]
    i = l
  end
  return top
end

-- A stream over a zset, read in growing pages. next(stream) -> member, score text; nil at the end.
local function stream(key, page)
  return {key = key, at = 0, page = page, i = 1, buffer = {}}
end

local function next_of(s, on_page)
  if s.i > #s.buffer then
    if s.finished then return nil end
    s.buffer = call('ZRANGE', s.key, s.at, s.at + s.page - 1, 'WITHSCORES')
    s.finished = #s.buffer < s.page * 2
    s.at = s.at + s.page
    s.page = min(s.page * PAGE_GROWTH, PAGE_MAX)
    s.i = 1
    if #s.buffer == 0 then return nil end
    if on_page then on_page(s.buffer) end
  end
  local member, score = s.buffer[s.i], s.buffer[s.i + 1]
  s.i = s.i + 2
  return member, score
end

-- Read the specs and the private limits of a page of heads in one go each.
local function prefetch_page(page)
  local ask = {}
  for i = 1, #page, 2 do
    local group = sub(page[i], ID + 1)
    if not specs[group] then ask[#ask + 1] = group end
  end
  if #ask == 0 then return end
  local raw = call('HMGET', P .. 'g', unpack(ask))
  local private = {}
  for i = 1, #ask do
    local spec = raw[i] and munpack(raw[i]) or {'', ''}
    specs[ask[i]] = spec
    if spec[2] ~= '' and not limits[spec[2]] then private[#private + 1] = spec[2] end
  end
  prefetch_limits(private)
end

local function push_lane(lane_stream)
  local member, score = next_of(lane_stream)
  if member then
    heap_push({score = tonumber(score), id = sub(member, 1, ID), lane = sub(member, ID + 1), kind = 'lane'})
  end
end

local function push_head(lane)
  local member, score = next_of(lane.stream, prefetch_page)
  if member then
    heap_push({score = tonumber(score), id = sub(member, 1, ID), lane = lane, kind = 'head',
               group = sub(member, ID + 1), text = score})
  end
end

local function push_task(g)
  local id, score = next_of(g.stream)
  g.next_id, g.next_score = id, score
  if id then
    heap_push({score = tonumber(score), id = id, lane = g.lane, kind = 'task', group = g.name, g = g})
  end
end

-- Which limits are closed, {state, what may open it, ...}, and when all of them are open again; nil when none is.
local function closed_of(list)
  local t
  local closed = {}
  for i = 1, #list do
    local s = limit_of(list[i])
    local opens, by = check(s, 1)
    if opens then
      t = max(t or 0, opens)
      closed[#closed + 1], closed[#closed + 2] = s, by
    end
  end
  return t, closed
end

local closed_lanes = {}

local function select_tasks(n, held)
  local taken, touched, closures = {}, {}, 0
  local page = n > 1 and PAGE or 1
  local all = stream(P .. 'lanes', page)
  push_lane(all)
  while #taken < n and #heap > 0 and closures < CLOSURES do
    local item = heap_pop()
    if item.kind == 'lane' then
      push_lane(all)
      local lane = {name = item.lane, list = lane_limits(item.lane),
                    stream = stream(P .. 'heads:' .. item.lane, page)}
      prefetch_limits(lane.list)
      push_head(lane)
    elseif not item.lane.closed then
      local lane, g = item.lane, item.g
      local t, closed = closed_of(lane.list)
      if t then
        lane.closed = true
        closures = closures + 1
        lane.opens, lane.waits = t, closed
        closed_lanes[#closed_lanes + 1] = lane -- applied at the end: the streams read by rank
      else
        if not g then
          push_head(lane)
          g = {name = item.group, lane = lane, head = item.id, count = 0,
               stream = stream(P .. 'r:' .. item.group, TASK_PAGE)}
          next_of(g.stream) -- the head itself
          touched[#touched + 1] = g
        end
        local private = spec_of(g.name)[2]
        local p = private ~= '' and limit_of(private)
        local opens
        opens, closed = closed_of(p and {private} or {})
        if opens then
          closures = closures + 1
          g.closed, g.opens, g.waits = true, opens, closed
          g.next_id, g.next_score = item.id, num(item.score)
        elseif C[SUSPECTS] > 0 and held > 0 and call('SISMEMBER', P .. 'suspects', item.id) == 1 then
          g.count = g.count + 1
          closures = closures + 1 -- as bounded as these
          call('ZADD', P .. 'delayed', num(now + SUSPECT_DELAY), item.id)
          note_event(now + SUSPECT_DELAY, true)
          push_task(g)
        else
          if C[SUSPECTS] > 0 and call('SISMEMBER', P .. 'suspects', item.id) == 1 then held = held + 1 end
          C[NONCE] = C[NONCE] + 1
          local token = fmt('%.0f.%.0f', now, C[NONCE])
          local who = item.id .. token
          for i = 1, #lane.list do spend(limit_of(lane.list[i]), who, 1) end
          if p then spend(p, who, 1) end
          taken[#taken + 1] = {id = item.id, token = token, lane = lane.name, private = private}
          g.count = g.count + 1
          push_task(g)
        end
      end
    end
  end
  local more = #heap > 0
  return taken, touched, more
end

-- Take what was selected out of the indexes, and put each group's next head, or its closing, in place.
local function apply_groups(touched)
  local gone, heads = {}, {}
  for i = 1, #touched do
    local g = touched[i]
    local L = lane_of(g.lane.name)
    local moved = g.count > 0
    if moved then call('ZREMRANGEBYRANK', P .. 'r:' .. g.name, 0, g.count - 1) end
    if moved or g.closed then
      local key = L.heads
      gone[key] = gone[key] or {}
      gone[key][#gone[key] + 1] = g.head .. g.name
      if g.closed then
        park_group(g.name, g.opens, g.waits)
      elseif g.next_id then
        heads[key] = heads[key] or {}
        local h = heads[key]
        h[#h + 1], h[#h + 2] = g.next_score, g.next_id .. g.name
      end
      L.dirty = true
    end
  end
  for key, members in pairs(gone) do each_piece(members, 1, function(...) call('ZREM', key, ...) end) end
  for key, members in pairs(heads) do each_piece(members, 2, function(...) call('ZADD', key, ...) end) end
  for i = 1, #closed_lanes do
    local lane = closed_lanes[i]
    park_lane(lane.name, lane.opens, lane.waits)
  end
end
