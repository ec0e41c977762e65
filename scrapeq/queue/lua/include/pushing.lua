-- pushing: new tasks, with deduplication.
-- NEEDS   base, records, groups, limits, finish
-- GIVES   register(spec), push(header, payloads, allowed) -> results
-- SPEC    JSON [{lane: [limit, ...]}, [[group, lane, private], ...]]
-- HEADER  per task '>ddHHBB': priority, delay (us), group index (1-based), owner (0, or the entry whose success
--         it needs), mode (0 only new, 1 raise priority), key length; then the key (a 9-byte digest)
-- RESULT  per task: its id when pushed; 'd' duplicate, 'r' raised, 'x' duplicate of a dead letter, '-' owner failed
local TASK_HEAD = 22 -- bytes

local function respec(name, lane, private)
  local old = spec_of(name)
  if old[1] == lane and old[2] == private then return end
  local L = lane_of(old[1])
  local head = call('ZRANGE', P .. 'r:' .. name, 0, 0, 'WITHSCORES')
  if head[1] then call('ZREM', L.heads, head[1] .. name) end
  L.dirty = true
  call('ZREM', P .. 'gp', name)
  specs[name] = {lane, private}
  if head[1] then
    local N = lane_of(lane)
    call('ZADD', N.heads, head[2], head[1] .. name)
    N.dirty = true
    arm()
  end
end

-- Make known the groups of this call; -> array of names.
local function register(spec)
  local names, fields = {}, {}
  local groups = spec[2]
  for i = 1, #groups do
    names[i] = groups[i][1]
    fields[i] = names[i]
  end
  if #names == 0 then return names end
  local raw = call('HMGET', P .. 'g', unpack(fields))
  local news = {}
  for i = 1, #groups do
    local g = groups[i]
    local lane, private = g[2], g[3]
    local packed = mpack({lane, private})
    if raw[i] ~= packed then
      if raw[i] then respec(g[1], lane, private) end
      if lane ~= '' and not lane_lists[lane] then
        call('HSETNX', P .. 'lane', lane, mpack(spec[1][lane]))
        lane_lists[lane] = spec[1][lane]
      end
      news[#news + 1] = g[1]
      news[#news + 1] = packed
    end
    specs[g[1]] = {lane, private}
  end
  if #news > 0 then call('HSET', P .. 'g', unpack(news)) end
  return names
end

local function raise_priority(id, priority)
  local rec = call('HGET', P .. 'task', id)
  local old, group = read_record(rec)
  if priority <= old then return false end
  call('HSET', P .. 'task', id, with_priority(rec, priority))
  if call('ZSCORE', P .. 'r:' .. group, id) then
    ready_remove(group, {id})
    ready_add({[group] = {num(-priority), id}})
  end
  return true
end

-- -> nil when it is new (and marked), else the result letter
local function duplicate(key, mode, priority, id)
  local known = call('HGET', (seen_key(key)), key)
  if not known then
    seen_mark(key, fmt('%.0f', tonumber(id)))
    return nil
  end
  C[N_DUPLICATE] = C[N_DUPLICATE] + 1
  if known == '' then return 'd' end
  local live = uid(tonumber(known))
  if call('ZSCORE', P .. 'dead', live) then return 'x' end
  if mode == 1 and raise_priority(live, priority) then return 'r' end
  return 'd'
end

-- allowed(owner) says whether the entry it follows from succeeded.
local function push(names, header, payloads, allowed)
  local results, records, adds, delayed = {}, {}, {}, {}
  local pos = 1
  for i = 1, #payloads do
    local priority, delay, g, owner, mode, klen = sunpack('>ddHHBB', header, pos)
    local key = sub(header, pos + TASK_HEAD, pos + TASK_HEAD + klen - 1)
    pos = pos + TASK_HEAD + klen
    if owner > 0 and not allowed(owner) then
      results[i] = '-'
    else
      local id = uid(C[SEQ] + 1)
      local known = klen > 0 and duplicate(key, mode, priority, id)
      if known then
        results[i] = known
      else
        C[SEQ] = C[SEQ] + 1
        results[i] = id
        local group = names[g]
        local rec = make_record(priority, group, key, payloads[i])
        if #rec > C[MAXREC] then C[MAXREC] = #rec end
        if mode == 1 then -- a later raise in this very call must find it
          call('HSET', P .. 'task', id, rec)
        else
          records[#records + 1], records[#records + 2] = id, rec
        end
        if delay > 0 then
          delayed[#delayed + 1], delayed[#delayed + 2] = num(now + delay), id
          note_event(now + delay)
        elseif mode == 1 then
          ready_add({[group] = {num(-priority), id}})
        else
          local a = adds[group]
          if not a then
            a = {}
            adds[group] = a
          end
          a[#a + 1], a[#a + 2] = num(-priority), id
        end
        C[N_PUSHED] = C[N_PUSHED] + 1
      end
    end
  end
  each_piece(records, 2, function(...) call('HSET', P .. 'task', ...) end)
  each_piece(delayed, 2, function(...) call('ZADD', P .. 'delayed', ...) end)
  ready_add(adds)
  return results
end
