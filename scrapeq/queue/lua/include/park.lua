-- park: close a lane or a group until a time, or until an event of a limit.
-- NEEDS   base, groups, limits
-- GIVES   park_lane(name, t, closed), park_group(group, t, closed)
--         closed = {limit state, the kind of event that may open it, ...; reserve: the one that may be the reason, or
--         nil; shared: whether any of the limits is shared with other groups}
-- LOCAL   score_of_time, await_events, note_threshold
local function score_of_time(t) return t >= NEVER and 'inf' or num(t) end

-- Each closed limit that an event may open stores the waiter, because any of them may open first.
local function await_events(closed, least, waiter, t)
  for i = 1, #closed, 2 do
    local s, by = closed[i], closed[i + 1]
    if by >= least then
      call('SADD', P .. 'w:' .. s[NAME], waiter)
      if s[WAKE_BY] < by then s[WAKE_BY], s[DIRTY] = by, true end
      if s[WAKE_BEFORE] < t then s[WAKE_BEFORE], s[DIRTY] = t, true end
    end
  end
end

-- Store the threshold of a waiter that is closed only for lower priorities: a task above it opens it (see `groups`).
local function note_threshold(waiter, t, reserve)
  local score = t >= NEVER and math.huge or t
  if reserve then call('HSET', P .. 'below', waiter, spack('>ddd', score, reserve[2], reserve[3])) end
end

local function park_lane(name, t, closed)
  local L = lane_of(name)
  if L.entry then call('ZREM', P .. 'lanes', L.entry) end
  L.parked, L.entry, L.dirty = true, nil, true
  call('ZADD', P .. 'lp', score_of_time(t), name)
  note_threshold('L' .. name, t, closed.reserve)
  await_events(closed, BY_REFUND, 'L' .. name, t)
  note_event(t, true)
end

-- A refund of a private limit reopens its group directly, so the group need not wait for one; only a learned limit may
-- also open by what is learned.
local function park_group(group, t, closed)
  call('ZADD', P .. 'gp', score_of_time(t), group)
  note_threshold('G' .. group, t, closed.reserve)
  local least = (closed.shared or closed[1].learns) and BY_REFUND or BY_USER
  await_events(closed, least, 'G' .. group, t)
  note_event(t, true)
end
