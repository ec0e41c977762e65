-- pushing: push new tasks, with deduplication.
-- NEEDS   base, records, groups, limits, finish
-- GIVES   read_heads(header, count, groups) -> heads; register(spec, used) -> names
--         push(names, heads, from, results, at)
-- LOCAL   move_group, raise_priority, occurrence_of, is_earlier, is_paginating, duplicate
-- SPEC    JSON [{lane: [limit (followed by \2 and its weight there, if not 1), ...]}, [[group, lane, private], ...]]
-- HEADER  per task '>ddHHBB': priority, delay (us), group index (1-based), owner (0, or the index of the entry whose
--         success it needs), mode (0 only new, 1 raise priority, 2 recurring), key length; then the key (see `records`)
-- RESULT  per task: its id if pushed; 'd' duplicate, 'r' raised, 'x' duplicate of a dead letter, '-' owner failed
local TASK_HEAD = 22 -- bytes
local GROUP_OF, OWNER, MODE = 3, 4, 5 -- indexes in a head
local OWN = '@' -- begins the name of a limit that an operator gave to a group; tasks never name it

-- Read the whole header before anything is written; raise an error if it is malformed.
local function read_heads(header, count, groups)
  local heads, pos = {}, 1
  for i = 1, count do
    local priority, delay, g, owner, mode, klen = sunpack('>ddHHBB', header, pos)
    local key = sub(header, pos + TASK_HEAD, pos + TASK_HEAD + klen - 1)
    if g < 1 or g > groups or #key < klen then error('a task without its group or key') end
    heads[i] = {priority, delay, g, owner, mode, key}
    pos = pos + TASK_HEAD + klen
  end
  return heads
end

local function move_group(name, lane, private)
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
    call('ZADD', N.heads, head_score(name, head[2]), head[1] .. name)
    N.dirty = true
    head_added(N, lane, head[2])
    arm()
  end
end

-- Store the groups of this call that are used (index -> true; nil: all). Return the array of their names.
local function register(spec, used)
  local groups, names, stored, changed = spec[2], {}, {}, {}
  for i = 1, #groups do names[i] = groups[i][1] end
  if #names == 0 then return names end
  local raw = call('HMGET', P .. 'g', unpack(names))
  for i = 1, #names do
    if raw[i] then
      stored[names[i]] = true
      specs[names[i]] = specs[names[i]] or split_spec(raw[i])
    end
  end
  for i = 1, #groups do
    local name, lane, private = groups[i][1], groups[i][2], groups[i][3]
    local old = spec_of(name)
    if private == '' and sub(old[2], 1, 1) == OWN then private = old[2] end -- it may be parked
    if (not used or used[i]) and (not stored[name] or old[1] ~= lane or old[2] ~= private) then
      if lane ~= '' then
        call('HSETNX', P .. 'lane', lane, table.concat(spec[1][lane], '\0'))
        lane_lists[lane] = nil
      end
      move_group(name, lane, private)
      stored[name], specs[name] = true, {lane, private}
      changed[#changed + 1], changed[#changed + 2] = name, lane .. '\0' .. private
    end
  end
  if #changed > 0 then
    changed[#changed + 1], changed[#changed + 2] = PAD, NO_LISTPACK
    in_pieces('HSET', P .. 'g', changed, 2)
  end
  return names
end

local function raise_priority(id, priority)
  local rec = call('HGET', P .. 'task', id)
  local old, group = read_record(rec)
  if priority <= old then return false end
  call('HSET', P .. 'task', id, with_priority(rec, priority))
  if call('ZSCORE', P .. 'r:' .. group, id) then
    ready_move(group, id, num(-priority))
  end
  return true
end

local function occurrence_of(key)
  return #key < OCCURRENCE_END and 0 or sunpack('>I4', key, DIGEST + 1)
end

-- Return whether the task was done, or died (its record), in an earlier occurrence than the key's.
local function is_earlier(known, dead_rec, key)
  local before = 0
  if dead_rec then
    before = occurrence_of(key_of(dead_rec))
  elseif known ~= '' then
    before = sunpack('>I4', known, 2)
  end
  return before < occurrence_of(key)
end

-- Return whether the key's pagination is at another page.
local function is_paginating(key)
  if #key == OCCURRENCE_END then return false end
  local pagination = sub(key, OCCURRENCE_END + 1)
  local at = call('HGET', (seen_key(pagination)), pagination)
  return at and not call('ZSCORE', P .. 'dead', uid(tonumber(at)))
end

-- Return nil for a new task (after marking its digest), else the result letter.
local function duplicate(key, mode, priority, id)
  local digest = sub(key, 1, DIGEST)
  local known = call('HGET', (seen_key(digest)), digest)
  local done = known and (known == '' or sub(known, 1, 1) == RECURRING_DONE)
  local live = known and not done and uid(tonumber(known))
  local dead = live and call('ZSCORE', P .. 'dead', live)
  local paginating = false
  if mode == 2 and (not known or done or dead) then
    local rec = dead and call('HGET', P .. 'task', live)
    paginating = is_paginating(key)
    if known and not paginating and is_earlier(known, rec, key) then
      known = nil
      if dead then -- its request is made again, so the dead letter is obsolete
        call('ZREM', P .. 'dead', live)
        forget_task(live, rec, false)
      end
    end
  end
  if not known and not paginating then
    seen_mark(digest, fmt('%.0f', tonumber(id)))
    if #key > OCCURRENCE_END then seen_mark(sub(key, OCCURRENCE_END + 1), fmt('%.0f', tonumber(id))) end
    return nil
  end
  C[N_DUPLICATE] = C[N_DUPLICATE] + 1
  if dead then return 'x' end
  if mode == 1 and live and raise_priority(live, priority) then return 'r' end
  return 'd'
end

-- Push the tasks of `heads`, with payloads from ARGV[from] on. A task with an owner is only pushed if results[owner] is
-- not 0. The result of task i becomes results[at + i].
local function push(names, heads, from, results, at)
  local records, adds, delayed = {}, {}, {}
  local raising = false -- a later raise in this call must find the tasks before it
  for i = 1, #heads do raising = raising or heads[i][MODE] == 1 end
  for i = 1, #heads do
    local priority, delay, g, owner, mode, key = unpack(heads[i])
    local id = uid(C[SEQ] + 1)
    local known
    if owner > 0 and results[owner] == 0 then
      known = '-'
    elseif key ~= '' then
      known = duplicate(key, mode, priority, id)
    end
    results[at + i] = known or id
    if not known then
      C[SEQ] = C[SEQ] + 1
      local group = names[g]
      local rec = make_record(priority, group, key, ARGV[from + i - 1])
      if #rec > C[MAX_RECORD] then C[MAX_RECORD] = #rec end
      if raising then
        call('HSET', P .. 'task', id, rec)
      else
        records[#records + 1], records[#records + 2] = id, rec
      end
      if delay > 0 then
        delayed[#delayed + 1], delayed[#delayed + 2] = num(now + delay), id
        note_event(now + delay)
      elseif raising then
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
  in_pieces('HSET', P .. 'task', records, 2)
  in_pieces('ZADD', P .. 'delayed', delayed, 2)
  ready_add(adds)
end
