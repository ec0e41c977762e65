-- pop: the one atomic pop: expire leases, make due tasks ready, open due groups, then lease the best n tasks whose
--      every limit grants now. Nothing to take: says when to ask again.
-- KEYS    1 the queue's control key
-- ARGV    1 n (count)   2 lease (us)   3 suspects the caller holds (count)
-- RETURNS {'ok', wait (us; -1 = only an event), live tasks, granted (us), then per task: id, token, record,
--         attempts, expiries, releases}; {'again'} when more time events are due than a call may take
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include park
-- @include finish
-- @include events
-- @include select
local EVENTS = 500              -- time events a call
local AGAIN_MAX = 20            -- after so many in a row the best known is leased, and counted inexact
local REPLY_MAX = 8388608       -- bytes of records in one reply, about
local TASKS_MAX = 1000          -- tasks in one reply

local n, lease, held = min(tonumber(ARGV[1]), TASKS_MAX), tonumber(ARGV[2]), tonumber(ARGV[3])
if C[MAXREC] > 0 then n = max(1, min(n, floor(REPLY_MAX / C[MAXREC]))) end

if events(EVENTS) then
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
  local known = C[NEXT]
  armed = false -- this caller is here to take what woke it
  local taken, touched, more = select_tasks(n, held)
  apply_groups(touched)
  if #taken > 0 then
    local ids, leases = {}, {}
    for i = 1, #taken do
      ids[i] = taken[i].id
      leases[i * 2 - 1], leases[i * 2] = num(now + lease), taken[i].id
    end
    local recs, raws = call('HMGET', P .. 'task', unpack(ids)), call('HMGET', P .. 'meta', unpack(ids))
    local metas = {}
    for i = 1, #taken do
      local t, m = taken[i], read_meta(raws[i])
      m[TOKEN], m[GRANTED], m[LANE], m[PRIVATE] = t.token, now, t.lane, t.private
      m[ANSWERED], m[QUIET], m[WEIGHT] = 0, 0, 1
      metas[i * 2 - 1], metas[i * 2] = t.id, mpack(m)
      local at = 4 + (i - 1) * 6
      reply[at + 1], reply[at + 2], reply[at + 3] = t.id, t.token, recs[i]
      reply[at + 4], reply[at + 5], reply[at + 6] = m[ATTEMPTS], m[EXPIRIES], m[RELEASES]
    end
    call('HSET', P .. 'meta', unpack(metas))
    call('ZADD', P .. 'leased', unpack(leases))
    note_event(now + lease, true)
    C[N_GRANTED] = C[N_GRANTED] + #taken
  end
  flush_lanes()
  if #taken == n then
    -- this caller may be full now: another takes what is left, or learns of the earlier event
    if more or C[NEXT] < known then arm() end
  elseif more then
    note_event(now, true)
  end
  reply[2] = C[NEXT] < NEVER and num(max(0, C[NEXT] - now)) or '-1'
end
reply[3] = num(call('HLEN', P .. 'task') - call('ZCARD', P .. 'dead'))
save_limits()
save()
return reply
