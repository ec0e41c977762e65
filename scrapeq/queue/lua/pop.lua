-- pop: the single atomic pop: expire leases, make due tasks ready, open due groups, then lease the best n tasks whose
--      limits all grant now. If there are none, it returns when to pop again.
-- KEYS    1 the queue's control key
-- ARGV    1 n (count)   2 lease (us)   3 suspects that the caller holds (count)   4 how long the caller will wait if it
--         gets nothing (us; 0 = not at all)   5 whether it also waits if it gets less than n (0|1)   6 until when it
--         was the designated waiter (us on the queue's clock; 0 = it was not): of several waiters, only this one polls
--         for the next event
-- RETURNS {'ok' or, if the caller becomes the designated waiter, 'watch'; wait (us; -1 = only an event); live tasks;
--         granted (us); then per task: id, token, record, attempts, expiries, releases; with pools, last an array of
--         each task's credential or ''}
--         {'again'} if more time events are due than one call may apply
-- @include base
-- @include records
local EVENTS_MAX = 150 -- time events in a call
local OTHERS_WAIT = 8000000 -- us; the other waiters return after this time, in case the designated one is lost
local WATCHED_SOON = 10000000 -- us; some worker pops before a later event anyway
local AGAIN_MAX = 20 -- after this many in a row, the best known task is leased and counted as inexact
local REPLY_MAX = 8388608 -- approximate bytes of records in one reply
local TASKS_MAX = 1000 -- tasks in one reply

local n, lease, held_suspects = min(tonumber(ARGV[1]), TASKS_MAX), tonumber(ARGV[2]), tonumber(ARGV[3])
local wait, waits_with_some = tonumber(ARGV[4]), ARGV[5] == '1'
if tonumber(ARGV[6]) == C[WATCH_UNTIL] then C[WATCH_UNTIL] = 0 end
if C[MAX_RECORD] > 0 then n = max(1, min(n, floor(REPLY_MAX / C[MAX_RECORD]))) end

-- Return whether a waiter will look at the next event. A caller that gets all n tasks may be full, so it will not.
local function has_watcher() return now < C[WATCH_UNTIL] and C[WATCH_UNTIL] <= C[NEXT] end
local function wake_another(more)
  if more or (C[NEXT] < now + WATCHED_SOON and not has_watcher()) then arm() end
end

-- The first task of the first group of the first lane was taken: put the next ones into the indexes.
-- heads: the lane's first two, with scores. Return whether any lane is still open.
local function advance(entry, lane, key, heads, id, group)
  call('ZREM', P .. 'r:' .. group, id)
  local after = call('ZRANGE', P .. 'r:' .. group, 0, 0, 'WITHSCORES')
  call('ZREM', key, heads[1])
  local best, score = heads[3], heads[4]
  local served = after[2]
  if C[FAIR] == 1 then
    C[TURN] = C[TURN] + 1
    served = num(C[TURN])
    if after[1] then call('HSET', P .. 'turn', group, served) else call('HDEL', P .. 'turn', group) end
  end
  if after[1] then
    local member = after[1] .. group
    call('ZADD', key, served, member)
    local a, b = tonumber(served), score and tonumber(score)
    if not best or a < b or (a == b and member < best) then best, score = member, served end
  end
  call('ZREM', P .. 'lanes', entry)
  if best then call('ZADD', P .. 'lanes', score, sub(best, 1, ID) .. lane) end
  return best ~= nil or call('EXISTS', P .. 'lanes') == 1
end

-- @include groups
-- @include limits
-- @include take

-- @include park
-- @include finish
-- @include events
-- @include pools
-- @include select

-- Take one task whose limits all grant, the most common case of a busy worker. Return whether there may be more; nil
-- without any change if something is closed.
local function take_first()
  local first = call('ZRANGE', P .. 'lanes', 0, 0)[1]
  if not first then return false end
  local lane = sub(first, ID + 1)
  if string.byte(lane) == POOLED then return nil end
  local key = P .. 'heads:' .. lane
  local heads = call('ZRANGE', key, 0, 1, 'WITHSCORES')
  local id, group = sub(heads[1], 1, ID), sub(heads[1], ID + 1)
  local private = spec_of(group)[2]
  local limit = private ~= '' and limit_of(private)
  local score = tonumber(C[FAIR] == 0 and heads[2] or call('ZSCORE', P .. 'r:' .. group, id))
  if limit and check(limit, 1, score) then return nil end
  local states, list = {}, lane_limits(lane)
  for i = 1, #list do
    states[i] = limit_of(list[i])
    if check(states[i], list.at and list.at[i] or 1, score) then return nil end
  end
  take(id, lane, private, states, limit, list.at)
  return advance(first, lane, key, heads, id, group)
end

-- Take any number of tasks, over closed lanes and groups.
local function take_many()
  local touched, more = select_tasks(n, held_suspects)
  apply_groups(touched)
  flush_lanes()
  return more
end

if now >= C[NEXT] and events(EVENTS_MAX) then
  C[AGAIN] = C[AGAIN] + 1
  if C[AGAIN] <= AGAIN_MAX then
    save_limits()
    save()
    return {'again'}
  end
  C[N_INEXACT] = C[N_INEXACT] + 1
end
C[AGAIN] = 0

local reply = {'ok', '-1', '0', num(now)}
if C[PAUSED] == 0 then
  armed = false -- this caller takes what the marker was set for
  local more
  if n == 1 and C[SUSPECTS] == 0 then more = take_first() end
  if more == nil then more = take_many() end
  if taken > 0 then lease_taken(reply, now + lease) end
  if more and taken < n then note_event(now, true) end
  local waits = wait > 0 and C[NEXT] > now and (taken == 0 or waits_with_some and taken < n)
  if not waits then
    -- Also if the caller was the designated waiter until now.
    if taken > 0 or wait == 0 then wake_another(taken == n and more) end
    if C[NEXT] < NEVER then reply[2] = num(max(0, C[NEXT] - now)) end
  elseif has_watcher() then
    reply[2] = num(max(OTHERS_WAIT, C[WATCH_UNTIL] - now))
  else
    C[WATCH_UNTIL] = floor(min(C[NEXT], now + wait))
    reply[1], reply[2] = 'watch', num(C[WATCH_UNTIL] - now)
  end
end
reply[3] = num(call('HLEN', P .. 'task') - call('ZCARD', P .. 'dead'))
save_limits()
save()
return reply
