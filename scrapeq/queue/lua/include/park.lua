-- park: close a lane or a group until a time, or until an event of a limit.
-- NEEDS   base, groups, limits
-- GIVES   park_lane(name, t, s), park_group(group, t, s): s = the limit state whose event may open it, or nil
local function until_text(t) return t >= NEVER and 'inf' or num(t) end

local function await_event(s, who)
  if s then
    call('SADD', P .. 'w:' .. s.name, who)
    s[WAITED], s.dirty = 1, true
  end
end

local function park_lane(name, t, s)
  local L = lane_of(name)
  if L.entry then call('ZREM', P .. 'lanes', L.entry) end
  L.parked, L.entry, L.dirty = true, nil, true
  call('ZADD', P .. 'lp', until_text(t), name)
  await_event(s, 'L' .. name)
  note_event(t, true)
end

local function park_group(group, t, s)
  call('ZADD', P .. 'gp', until_text(t), group)
  await_event(s, 'G' .. group)
  note_event(t, true)
end
