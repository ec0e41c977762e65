-- fsck: check whether one area of the queue agrees with the others. Reads only; each call sees one moment of the queue.
-- KEYS    1 the queue's control key
-- ARGV    1 area   2 cursor ('0' to start)   3 page (count)   4 group or lane, for the areas `ready` and `heads`
-- AREAS   tasks meta delayed leased dead suspects groups ready lanes heads index parked_lanes parked_groups seen totals
-- RETURNS {cursor ('0' = the end), checked (count), then per finding 3 values: kind, name, detail}; the kinds
--         `scan ready` and `scan heads` are not findings: they name a group or lane too large to check here
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include pools
-- @include finish
local SMALL = 100 -- groups and lanes up to this size are checked together with their page
local TOTALS_MAX = 5000 -- leases that are summed up in one call, at most
local BUCKET = 64 -- approximate number of digests in a bucket of `seen`
local area, cursor, page, which = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local out = {'0', 0}

local function report(kind, what, detail)
  local n = #out
  out[n + 1], out[n + 2], out[n + 3] = kind, what, detail or ''
end

local function scan(command, key)
  local got = call(command, P .. key, cursor, 'COUNT', page)
  out[1] = got[1]
  if command ~= 'HSCAN' then return got[2] end
  local fields = {}
  for i = 1, #got[2], 2 do
    if got[2][i] ~= PAD then fields[#fields + 1], fields[#fields + 2] = got[2][i], got[2][i + 1] end
  end
  return fields
end

local function has(key, field) return call('HEXISTS', P .. key, field) == 1 end

local function check_task(id, rec)
  local priority, group, key = read_record(rec)
  local states, ready = {}, call('ZSCORE', P .. 'r:' .. group, id)
  if ready then states[1] = 'ready' end
  for _, zset in ipairs({'delayed', 'leased', 'dead'}) do
    if call('ZSCORE', P .. zset, id) then states[#states + 1] = zset end
  end
  if #states ~= 1 then report('states', id, #states == 0 and 'none' or table.concat(states, ' ')) end
  if ready and tonumber(ready) ~= -priority then report('priority', id, 'its score differs from its priority') end
  if tonumber(id) > C[SEQ] then report('sequence', id, 'the next push will take its id') end
  if not has('g', group) then report('group', id, 'unknown group') end
  local token = read_meta(call('HGET', P .. 'meta', id))[TOKEN]
  if (states[1] == 'leased') ~= (token ~= '') then
    report('token', id, token == '' and 'leased without a token' or 'has a token but is not leased')
  end
  if key ~= '' then
    local digest = sub(key, 1, DIGEST)
    local known = call('HGET', (seen_key(digest)), digest)
    if not known or known == '' or sub(known, 1, 1) == RECURRING_DONE or uid(tonumber(known)) ~= id then
      report('identity', id, known and tonumber(known) and 'belongs to task ' .. known or 'its digest is missing')
    end
  end
end

-- Check that each member of a zset of tasks has its record; a lease without one is a grant if it has a token.
local function check_members(zset, members)
  for i = 1, #members, 2 do
    local id = members[i]
    if not has('task', id) then
      local grant = zset == 'leased' and read_meta(call('HGET', P .. 'meta', id))[TOKEN] ~= ''
      if not grant then report('missing record', id, zset) end
    end
  end
end

local function check_heads(lane, heads)
  for i = 1, #heads, 2 do
    local id, group = sub(heads[i], 1, ID), sub(heads[i], ID + 1)
    local first = call('ZRANGE', P .. 'r:' .. group, 0, 0, 'WITHSCORES')
    local is_first = first[1] == id and tonumber(head_score(group, first[2])) == tonumber(heads[i + 1])
    if not is_first or spec_of(group)[1] ~= lane then
      report('stray head', group, id)
    end
  end
end

-- Check that a limit that may open the parked lane or group stores it as a waiter.
local function check_waiting(kind, name, list)
  for i = 1, #list do
    local s = limit_of(list[i])
    local soon = call('ZSCORE', P .. 'lp', '\0' .. list[i])
    if soon or (s[WAKE_BY] > 0 and call('SISMEMBER', P .. 'w:' .. list[i], kind .. name) == 1) then return end
  end
  report('never woken', name, kind == 'L' and 'lane' or 'group')
end

local function small(key, kind, name, visit)
  local size = call('ZCARD', P .. key)
  if size > SMALL then
    report('scan ' .. kind, name)
  elseif size > 0 then
    visit(name, call('ZRANGE', P .. key, 0, -1, 'WITHSCORES'))
  end
end

-- Return the limit instances of a lane, including those of a pool's credentials.
local function instances_of_lane(lane)
  local all = {}
  for _, inst in ipairs(lane_limits(lane)) do
    for _, each in ipairs(instances(inst)) do all[#all + 1] = each end
  end
  return all
end

local function check_group(group)
  local spec = spec_of(group)
  local first = call('ZRANGE', P .. 'r:' .. group, 0, 0, 'WITHSCORES')
  local parked = call('ZSCORE', P .. 'gp', group)
  local head = first[1] and call('ZSCORE', P .. 'heads:' .. spec[1], first[1] .. group)
  if first[1] then
    if parked and head then report('open and parked', group, 'group') end
    if not parked and not head then report('lost', group, 'its first task is not a head') end
    if head and tonumber(head) ~= tonumber(head_score(group, first[2])) then report('stray head', group, first[1]) end
  elseif parked then
    report('empty and parked', group, 'group')
  end
  if C[FAIR] == 1 and has('turn', group) ~= (first[1] ~= nil) then
    report('turn', group, first[1] and 'missing' or 'set for an empty group')
  end
  if spec[1] ~= '' and not has('lane', spec[1]) then report('lane', group, 'unknown lane') end
  if parked == 'inf' then check_waiting('G', group, {spec[2], unpack(instances_of_lane(spec[1]))}) end
  small('r:' .. group, 'ready', group, function(_, members) check_members('ready', members) end)
end

local function check_lane(lane)
  local head = call('ZRANGE', P .. 'heads:' .. lane, 0, 0, 'WITHSCORES')
  local parked = call('ZSCORE', P .. 'lp', lane)
  local entry = head[1] and call('ZSCORE', P .. 'lanes', sub(head[1], 1, ID) .. lane)
  if head[1] then
    if parked and entry then report('open and parked', lane, 'lane') end
    if not parked and not (entry and tonumber(entry) == tonumber(head[2])) then
      report('lost', lane, 'its head is missing in the index')
    end
  elseif parked then
    report('empty and parked', lane, 'lane')
  end
  if parked == 'inf' then
    check_waiting('L', lane, instances_of_lane(lane))
  end
  small('heads:' .. lane, 'heads', lane, check_heads)
end

-- Check that each limit's weight in flight is that of its leases without a response, and that counters are right.
local function check_totals()
  for _, zset in ipairs({'delayed', 'leased', 'lp', 'gp'}) do
    local first = call('ZRANGE', P .. zset, 0, 0, 'WITHSCORES')
    if first[1] and tonumber(first[2]) < C[NEXT] then report('late', zset, 'due before the next event') end
  end
  if call('SCARD', P .. 'suspects') ~= C[SUSPECTS] then report('count', 'suspects') end
  if call('ZCARD', P .. 'leased') > TOTALS_MAX or call('HLEN', P .. 'l') > TOTALS_MAX then
    report('unchecked', 'in flight', 'too many leases or limits to sum up at once')
    return
  end
  local grants, charged = 0, {}
  for _, id in ipairs(call('ZRANGE', P .. 'leased', 0, -1)) do
    local m = read_meta(call('HGET', P .. 'meta', id))
    if not has('task', id) then grants = grants + 1 end
    if m[ANSWERED] == 0 then
      local lane = lane_limits(m[LANE])
      local list, of = {unpack(lane)}, lane.of or {}
      if m[PRIVATE] ~= '' then list[#list + 1] = m[PRIVATE] end
      for i = 1, #list do charged[list[i]] = (charged[list[i]] or 0) + m[WEIGHT] * (of[list[i]] or 1) end
    end
  end
  if grants ~= C[TASKLESS_LEASES] then
    report('count', 'grants without a task', num(C[TASKLESS_LEASES]) .. ', expected ' .. num(grants))
  end
  local states = call('HGETALL', P .. 'l')
  for i = 1, #states, 2 do charged[states[i]] = charged[states[i]] or 0 end
  for inst, sum in pairs(charged) do
    local fly = limit_of(inst)[IN_FLIGHT]
    if fly ~= sum then report('in flight', inst, num(fly) .. ', its leases have ' .. num(sum)) end
  end
end

if area == 'tasks' then
  local entries = scan('HSCAN', 'task')
  for i = 1, #entries, 2 do check_task(entries[i], entries[i + 1]) end
  out[2] = #entries / 2
elseif area == 'meta' then
  local entries = scan('HSCAN', 'meta')
  for i = 1, #entries, 2 do
    if not has('task', entries[i]) and not call('ZSCORE', P .. 'leased', entries[i]) then
      report('missing record', entries[i], 'meta')
    end
  end
elseif area == 'delayed' or area == 'leased' or area == 'dead' then
  check_members(area, scan('ZSCAN', area))
elseif area == 'suspects' then
  for _, id in ipairs(scan('SSCAN', area)) do
    if not has('task', id) then report('missing record', id, 'suspects') end
  end
elseif area == 'ready' then
  check_members('ready', scan('ZSCAN', 'r:' .. which))
elseif area == 'heads' then
  check_heads(which, scan('ZSCAN', 'heads:' .. which))
elseif area == 'groups' then
  local entries = scan('HSCAN', 'g')
  for i = 1, #entries, 2 do check_group(entries[i]) end
  out[2] = #entries / 2
elseif area == 'lanes' then
  if cursor == '0' then check_lane('') end
  local entries = scan('HSCAN', 'lane')
  for i = 1, #entries, 2 do check_lane(entries[i]) end
  out[2] = #entries / 2
elseif area == 'index' then
  local entries = scan('ZSCAN', 'lanes')
  for i = 1, #entries, 2 do
    local lane = sub(entries[i], ID + 1)
    local head = call('ZRANGE', P .. 'heads:' .. lane, 0, 0)[1]
    local id = sub(entries[i], 1, ID)
    if not head or sub(head, 1, ID) ~= id then report('stray entry', lane, id) end
  end
elseif area == 'parked_lanes' then
  local entries = scan('ZSCAN', 'lp')
  for i = 1, #entries, 2 do
    local lane = entries[i]
    if sub(lane, 1, 1) ~= '\0' and lane ~= '' and not has('lane', lane) then
      report('lane', lane, 'parked but unknown')
    end
  end
elseif area == 'parked_groups' then
  local entries = scan('ZSCAN', 'gp')
  for i = 1, #entries, 2 do
    if not has('g', entries[i]) then report('group', entries[i], 'parked but unknown') end
  end
elseif area == 'seen' then
  local from = tonumber(cursor)
  local to = min(C[SEEN_BUCKETS], from + max(1, floor(page / BUCKET)))
  for b = from, to - 1 do
    local key = P .. 'seen:' .. fmt('%.0f', b)
    local all = call('HGETALL', key)
    for i = 1, #all, 2 do
      local done = all[i + 1] == '' or sub(all[i + 1], 1, 1) == RECURRING_DONE
      local id = not done and uid(tonumber(all[i + 1]))
      local rec = id and call('HGET', P .. 'task', id)
      local key_there = rec and key_of(rec) or ''
      local is_its = sub(key_there, 1, DIGEST) == all[i] or sub(key_there, OCCURRENCE_END + 1) == all[i]
      if id and not is_its then report('identity', id, 'its digest is stored but the task is gone') end
      if seen_key(all[i]) ~= key then report('bucket', fmt('%.0f', b), 'holds a digest of another bucket') end
    end
  end
  if to < C[SEEN_BUCKETS] then out[1] = fmt('%.0f', to) end
else
  check_totals()
end
return out
