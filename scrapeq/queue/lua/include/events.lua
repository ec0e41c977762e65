-- events: apply due time events, at most `budget` in a call: leases and delays end, parked lanes and groups open.
-- NEEDS   base, records, groups, limits, finish
-- GIVES   events(budget) -> whether more are due; afterwards the time of the next event is exact
-- LOCAL   due_of, jitter, expire, earliest
local POISON = 3 -- expired leases after which a task is a dead letter
local EXPIRY_JITTER = 1000000 -- us; expired tasks return within this time

local function due_of(zset, limit, ...)
  return call('ZRANGEBYSCORE', P .. zset, '-inf', num(now), 'LIMIT', 0, limit, ...)
end

-- A deterministic spread: the tasks of a killed worker return at different times, so that a poisonous one is isolated.
local function jitter(id, width)
  return (now + tonumber(id) * 7919) % width
end

-- ended: when the lease ended, which may be long ago if nobody pops.
local function expire(id, ended, m, rec, adds)
  settle_lease(m, 'expired', ended, rec)
  call('ZREM', P .. 'leased', id)
  if not rec then -- a grant without a task
    C[TASKLESS_LEASES] = C[TASKLESS_LEASES] - 1
    call('HDEL', P .. 'meta', id)
    return
  end
  m[TOKEN] = ''
  if m[QUIET] == 1 then -- its worker set this end
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
