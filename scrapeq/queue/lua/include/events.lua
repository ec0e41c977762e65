-- events: what time brings, at most `budget` things a call: leases end, delays end, parked lanes and groups open.
-- NEEDS   base, records, groups, limits, finish
-- GIVES   events(budget) -> true when some are still left; next_event is exact afterwards
local POISON = 3             -- leases that run out under a task before it is dead
local EXPIRY_JITTER = 1000000 -- us over which expired tasks come back

local function due_of(zset, limit, ...)
  return call('ZRANGEBYSCORE', P .. zset, '-inf', num(now), 'LIMIT', 0, limit, ...)
end

-- Deterministic spread: neighbours of a killed worker come back apart, so that the poison is found alone.
local function jitter(id, width)
  return (now + tonumber(id) * 7919) % width
end

-- ended: when the lease did, which may be long ago where nobody pops.
local function expire(id, ended, m, rec, adds)
  settle_lease(m, 'expired', ended, rec)
  call('ZREM', P .. 'leased', id)
  if not rec then -- a grant without a task
    C[TASKLESS_LEASES] = C[TASKLESS_LEASES] - 1
    call('HDEL', P .. 'meta', id)
    return
  end
  m[TOKEN] = ''
  if m[QUIET] == 1 then -- given back by its holder, at this time
    m[QUIET], m[RELEASES] = 0, m[RELEASES] + 1
    C[N_RELEASED] = C[N_RELEASED] + 1
    call('HSET', P .. 'meta', id, make_meta(m))
    to_ready_or_delayed(id, rec, now, adds)
    return
  end
  m[EXPIRIES] = m[EXPIRIES] + 1
  C[N_EXPIRED] = C[N_EXPIRED] + 1
  if m[EXPIRIES] >= POISON then
    to_dead(id, m, 'crashed: its lease ran out ' .. POISON .. ' times')
    return
  end
  call('HSET', P .. 'meta', id, make_meta(m))
  if call('SADD', P .. 'suspects', id) == 1 then C[SUSPECTS] = C[SUSPECTS] + 1 end
  to_ready_or_delayed(id, rec, now + jitter(id, EXPIRY_JITTER), adds)
end

local function earliest(zset)
  local first = call('ZRANGE', P .. zset, 0, 0, 'WITHSCORES')
  return first[1] and min(tonumber(first[2]), NEVER) or NEVER
end

local function events(budget)
  if now < C[NEXT] then return false end
  local adds = {}
  local ids, ended = {}, {}
  local due = due_of('leased', budget, 'WITHSCORES')
  for i = 1, #due, 2 do ids[#ids + 1], ended[#ended + 1] = due[i], tonumber(due[i + 1]) end
  if #ids > 0 then
    local metas, recs = call('HMGET', P .. 'meta', unpack(ids)), call('HMGET', P .. 'task', unpack(ids))
    for i = 1, #ids do expire(ids[i], ended[i], read_meta(metas[i]), recs[i], adds) end
    budget = budget - #ids
  end
  ids = budget > 0 and due_of('delayed', budget) or {}
  if #ids > 0 then
    local recs = call('HMGET', P .. 'task', unpack(ids))
    call('ZREM', P .. 'delayed', unpack(ids))
    for i = 1, #ids do to_ready_or_delayed(ids[i], recs[i], now, adds) end
    budget = budget - #ids
  end
  ready_add(adds)
  ids = budget > 0 and due_of('lp', budget) or {}
  for i = 1, #ids do
    if sub(ids[i], 1, 1) == '\0' then
      call('ZREM', P .. 'lp', ids[i])
      wake_limit(sub(ids[i], 2))
    else
      reopen_lane(ids[i])
    end
  end
  budget = budget - #ids
  ids = budget > 0 and due_of('gp', budget) or {}
  for i = 1, #ids do reopen_group(ids[i]) end
  flush_lanes()
  C[NEXT] = min(earliest('leased'), earliest('delayed'), earliest('lp'), earliest('gp'))
  return C[NEXT] <= now
end
