-- limits: the state of each limit instance, what it grants now, what a grant and an answer change.
--   ld   hash  limit name -> {version, max_concurrency (0 = none), learn (0|1), rate..., options}
--              rate: {limit, interval us, burst (0 = none), offset us of its calendar windows (none = no such)}
--              options, if there are any: {reserve = {fraction, line, its part that is now (0|1)}, since = us of the
--              last change}. What is below the line (a priority) leaves the fraction of each quota alone
--   l    hash  instance ("name" or "name|partition") -> big-endian doubles, fields below
-- GIVES   limit_of, prefetch_limits, check, wake_if_sooner, spend, cost, settle, tell, park_limit, forget_limit, save_limits, lane_limits,
--         and those of `learn`
-- A state here is an array: four fields of ours, then those that are kept
local DEF, NAME, DIRTY, SLOTS = 1, 2, 3, 4
local PARK, PAUSE, FLY, NEED, PID, PAFTER = 5, 6, 7, 8, 9, 10
local REM, RESET, TOLD, REFUSED, STREAK, WAITED = 11, 12, 13, 14, 15, 16
local HEARD = 17 -- weight answered since TOLD
local SINCE = 18 -- the end of the last told window; what was granted before it tells of one that is over
local AWAITED = 19 -- the latest time at which who waits looks anyway
local BUSY, MOST_TOLD, OVER, DEFINED = 20, 21, 22, 23 -- requests in flight (FLY is their weight); the most that was told
-- in this told window; the heaviest request that was more than the whole limit; the definition's `since` that TAT fits
local SLOW, SLOWED = 24, 25 -- declared rates are paced so much slower (1 = half), as of when
local TAT, BEGAN = 26, 27 -- per rate two fields: paced up to then; when its full bucket was asked, until an answer comes
-- of a rate with calendar windows: the end of the one it was last answered in; the weight answered in it
-- of a limit without declared rates, what is learned: see `learn`
local L_LIMIT, L_WINDOW, L_TRIAL, L_REFUSED, L_SINCE, L_ANSWERED, L_STEP = 28, 29, 30, 31, 32, 33, 34
local L_REOPENED, L_PENDING, L_SHORTEST, L_ENDS, L_ROUNDING, L_SOURCE = 35, 36, 37, 38, 39, 40
local L_BEFORE, L_COST, L_SHAPE = 41, 42, 43
local L_LAST = 43
local L_STATE = 39              -- fields that are kept of such a limit; with declared rates, of which there are 8 at most, they are fewer
local LEAST_WEIGHT = 0.0009765625 -- of a request that weighs anything
local PROBE_GAP = 1000000       -- us between two probes of one limit, at least
local GROWTH_MAX = 300000000    -- us; a park after refused probes grows by itself up to this
local TOO_SHORT = 0.1           -- of a told wait that a refused probe adds at most, or a second
local TOLD_LEAST = 1000000      -- us; what is told to be left stays so for this time at least
local A_TIME = 1e14             -- us; less is no time of ours but a weight: BEGAN holds either
-- WAITED says what may open the limit sooner than those think who wait for it
local BY_REFUND, BY_PERSON, BY_ANSWER = 1, 2, 3

-- PID: the nonce of the probe's lease; 0 = none is on its way
local KEPT, PER_RATE = 5, 2 -- the first field that is kept; fields a rate

local defs, limits = {}, {}
local OPEN_DEF = {0, 0, 0}
local WEIGHS = '\2' -- between a limit's name in a lane and what a request of the lane weighs there

local function def_of(inst)
  local bar = string.find(inst, '|', 1, true)
  local name = bar and sub(inst, 1, bar - 1) or inst
  local d = defs[name]
  if not d then
    local raw = call('HGET', P .. 'ld', name)
    d = raw and munpack(raw) or OPEN_DEF
    local last = d[#d]
    if type(last) == 'table' and not last[1] then
      d[#d], d.reserve, d.since = nil, last.reserve, last.since
    end
    defs[name] = d
  end
  return d
end

local DOUBLES = 'dddddddddddddddddddddddddddddddddddddddddddddddd'
local function doubles(n) return '>' .. sub(DOUBLES, 1, n) end

-- Who waits for an event of this kind, or one that happens oftener, looks again.
local function wake_waiters(s, by)
  if s[WAITED] >= by then
    s[WAITED], s[AWAITED], s[DIRTY] = 0, 0, true
    wake_limit(s[NAME])
  end
end

local function learns(d) return d[3] == 1 and d[4] == nil end

-- @include slots
-- @include learn

-- @include pace

-- How far ahead (us) a rate is paced at most, whatever was charged.
local function farthest(rate) return max(rate[2], rate[3] * rate[2] / rate[1]) end

-- The end of the calendar window that holds now.
local function window_end(rate) return rate[4] + (floor((now - rate[4]) / rate[2]) + 1) * rate[2] end

local function limit_from(inst, raw)
  local d = def_of(inst)
  local s
  if raw then
    s = {d, inst, false, false, sunpack(doubles(#raw / 8), raw)}
    s[#raw / 8 + KEPT] = nil -- where reading ended
  else
    s = {d, inst, false, false, 0, 0, 0, d[3], 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, d.since or 0, 0, 0}
  end
  if learns(d) then
    s.learns = true
    if not raw or #raw / 8 ~= L_STATE then
      s[TAT] = s[TAT] or 0
      for i = BEGAN, L_LAST do s[i] = 0 end
      s[L_REOPENED] = 1
    elseif s[L_LIMIT] > 0 then
      in_force(s)
      d = s[DEF]
    end
  else
    if raw and #raw / 8 == L_STATE then for i = L_LIMIT, L_LAST do s[i] = nil end end
    for i = TAT, TAT + PER_RATE * (#d - 3) - 1 do s[i] = s[i] or 0 end
  end
  if s[REM] >= 0 and s[RESET] <= now then -- the told window is over: nothing is known until the next answer
    s[REM], s[SINCE], s[MOST_TOLD] = -1, s[RESET], 0
    if d[4] == nil then s[NEED] = 1 end
    s[DIRTY] = true
  end
  if d.since and s[DEFINED] ~= d.since then -- what was paced by other rates closes no longer than these ever do
    for i = 1, #d - 3 do
      local tat = TAT + 2 * (i - 1)
      s[tat] = min(s[tat], d.since + farthest(d[3 + i]))
      if (s[tat + 1] < A_TIME) == not d[3 + i][4] then s[tat + 1] = 0 end -- it was of another kind
    end
    s[DEFINED], s[DIRTY] = d.since, true
  end
  limits[inst] = s
  return s
end

local function limit_of(inst)
  return limits[inst] or limit_from(inst, call('HGET', P .. 'l', inst))
end

local function prefetch_limits(names)
  if #names == 0 then return end
  local raw = call('HMGET', P .. 'l', unpack(names))
  for i = 1, #names do
    if not limits[names[i]] then limit_from(names[i], raw[i]) end
  end
end

-- A lane that begins with '*' has limits that are pools (see `pools`); a lease names the member that it is charged to.
local POOLED = 42 -- '*'
local MEMBER_MARK = '\1'
local LANE_AND_MEMBER = '^([^\1]*)\1?(.*)$'
local function of_member(inst, member) return member == '' and inst or (string.gsub(inst, '%*[%w_-]*', member)) end

-- The limits of a lane by name; where one is charged other than 1: `of` (name -> weight) and `at` (place -> weight).
local lane_lists = {}
local function lane_limits(lane)
  if lane == '' then return {} end
  local list = lane_lists[lane]
  if not list then
    local base, member = lane, nil
    if string.byte(lane) == POOLED then base, member = string.match(lane, LANE_AND_MEMBER) end
    local raw = call('HGET', P .. 'lane', base)
    list = {}
    for name in string.gmatch(raw or '', '[^%z]+') do
      local at = string.find(name, WEIGHS, 1, true)
      if at then
        local weight = tonumber(sub(name, at + 1))
        name = sub(name, 1, at - 1)
        if member then name = of_member(name, member) end
        if not list.of then list.of, list.at = {}, {} end
        list.of[name], list.at[#list + 1] = weight, weight
      elseif member then
        name = of_member(name, member)
      end
      list[#list + 1] = name
    end
    lane_lists[lane] = list
  end
  return list
end

-- Requests in flight at most while nothing is known.
local function cap_of(s)
  if s[DEF][2] > 0 then return s[DEF][2] end
  return s.learns and START_IN_FLIGHT + floor(s[L_ANSWERED] / GROWTH) or START_IN_FLIGHT
end

-- The priority from which on a reserve may be used.
local function line_of(reserve) return reserve[2] + reserve[3] * now / 1000000 end

-- Does the limit grant weight w to a task of this score (-priority) now?
-- -> nil: yes. Else the time (us) it opens, NEVER when only an event can open it; what may open it sooner; and its
-- reserve where that may be the reason.
local ANY = -math.huge -- the score of what is above every line: a grant without a task
local function check(s, w, score)
  local d = s[DEF]
  local reserve, keep = d.reserve, 0
  if reserve then
    if -score < line_of(reserve) then keep = reserve[1] else reserve = nil end
  end
  if s[PAUSE] == 1 then return NEVER, BY_PERSON end
  if s[PARK] > now then return s[PARK], BY_PERSON end
  if s[NEED] == 1 then
    if s[PID] ~= 0 then return NEVER, BY_ANSWER end
    if s[PAFTER] > now then return s[PAFTER], BY_PERSON end
  end
  if d[2] > 0 and s[BUSY] >= d[2] then return NEVER, BY_ANSWER end
  if w == 0 then return nil end
  if s[REM] >= 0 then
    if s[REM] - s[FLY] - keep * s[MOST_TOLD] < w then return s[RESET], BY_ANSWER, reserve end
  elseif d[3] == 1 and d[4] == nil and s[NEED] == 0 and s[FLY] + w > cap_of(s) and s[FLY] > 0 then
    return NEVER, BY_ANSWER
  end
  local opens, why -- of the rates that are closed the latest, for who looks earlier looks in vain
  for i = 1, #d - 3 do
    local rate = d[3 + i]
    local tat, began = s[TAT + 2 * (i - 1)], s[BEGAN + 2 * (i - 1)]
    if rate[4] then
      local used = s[FLY] + (tat > now and began or 0)
      if used > 0 and used + w > rate[1] * (1 - keep) then
        -- ... or when what was not spent comes back
        opens, why = max(opens or 0, tat > now and tat or window_end(rate)), max(why or 0, BY_PERSON)
      end
    else
      local period = pace(s, rate)
      local early = rate[3] < 0 and NEVER or rate[3] > 0 and (rate[3] - min(w, rate[3]) - keep * rate[3]) * period or min(period, PACE_TOLERANCE)
      local t = tat - early
      if t > now then
        opens, why = max(opens or 0, t), max(why or 0, BY_REFUND)
      elseif began > 0 and tat > now and t > began then -- not known to refill yet
        opens, why = max(opens or 0, tat), BY_ANSWER
      end
      if rate[3] <= 0 then
        local sl = slots_of(s, i)
        local used = s[FLY] + sl.total
        local over = used + w - rate[1] * (1 - keep)
        if rate[3] < 0 and s[L_SHAPE] == TRYING and s[NEED] == 0 and s[FLY] > 0 and s[FLY] + w > cap_of(s) then
          return NEVER, BY_ANSWER, reserve
        end
        if over > 0 and used > 0 then
          if not sl.oldest then return NEVER, BY_ANSWER, reserve end
          opens, why = max(opens or 0, math.ceil(freed_at(sl, min(over, used))), now + 1), max(why or 0, BY_REFUND)
        end
      end
    end
  end
  if opens then return opens, why, reserve end
  return nil
end

-- As wake_waiters, but only if it grants now, or at a time before which nobody would look.
local function wake_if_sooner(s, by)
  if s[WAITED] < by then return end
  local t = check(s, LEAST_WEIGHT, ANY)
  if not t or t < s[AWAITED] then wake_waiters(s, by) end
end


-- Grant weight w to the lease of nonce `who`; after a park it is the probe.
local function spend(s, who, w)
  local d = s[DEF]
  if s.learns then learn_granted(s) end
  s[FLY], s[BUSY] = s[FLY] + w, s[BUSY] + 1
  for i = 1, #d - 3 do
    local rate, tat, began = d[3 + i], TAT + 2 * (i - 1), BEGAN + 2 * (i - 1)
    if w > 1 and w > (rate[3] > 0 and rate[3] or rate[1]) then s[OVER] = max(s[OVER], w) end
    if not rate[4] and w > 0 and rate[3] >= 0 then
      if s[tat] <= now then s[tat], s[began] = now, rate[3] > 1 and now or 0 end
      s[tat] = min(s[tat] + pace(s, rate) * w, now + farthest(rate))
    end
  end
  s[DIRTY] = true
  if s[NEED] == 1 then
    local period = d[4] and not d[4][4] and d[4][2] / d[4][1] or 0
    s[PID], s[PAFTER] = who, now + max(period, PROBE_GAP)
  end
end

-- A request has cost its weight, and no answer tells what is left now.
local function cost(s, w)
  if s[REM] >= 0 then
    s[REM], s[HEARD], s[DIRTY] = max(0, s[REM] - w), s[HEARD] + w, true
  end
end

-- A grant, given at `granted`, has come to its end. how: 'answered' at time t, 'unsent' (refunded), 'expired' (nobody
-- knows). w: what it was charged; paid: what it has cost. -> whether more is free than an answer frees
local function settle(s, who, how, t, w, granted, refused, paid)
  local freed = paid < w
  s[FLY], s[BUSY] = max(0, s[FLY] - w), max(0, s[BUSY] - 1)
  local opened = s[PID] == who and how == 'answered' and not refused
  if s.learns and how == 'answered' and not refused then
    if opened then learn_reopened(s, granted, paid) else learn_answered(s, granted, paid) end
  end
  local d = s[DEF]
  for i = 1, #d - 3 do
    local rate, tat, began = d[3 + i], TAT + 2 * (i - 1), BEGAN + 2 * (i - 1)
    if rate[4] then
      if s[tat] <= now then s[tat], s[began] = window_end(rate), 0 end
      if how == 'unsent' or t < s[tat] - rate[2] then freed = true else s[began] = s[began] + paid end
    elseif how == 'unsent' then
      if rate[3] >= 0 then s[tat] = s[tat] - pace(s, rate) * w end
    else
      if paid ~= w and rate[3] >= 0 then s[tat] = min(s[tat] + pace(s, rate) * (paid - w), now + farthest(rate)) end
      if rate[3] <= 0 then
        if paid > 0 then stamp(s, i, t, paid) end
      elseif s[began] > 0 and granted >= s[began] then
        -- the server's bucket was full until a request reached it, at t at the latest: only from then on it refills
        s[tat], s[began] = s[tat] + max(0, t - s[began]), 0
      end
      -- a request after a pause reaches the server later than the next one would after it
      if opened and (rate[3] == 0 or rate[3] == 1) then
        s[tat] = max(s[tat], min(t + pace(s, rate), now + farthest(rate)))
      end
    end
  end
  if how == 'expired' then cost(s, paid) end -- it may have been spent
  if s[PID] == who then
    s[PID] = 0
    if opened then
      s[NEED], s[STREAK], s[PAFTER] = 0, 0, 0
    elseif how == 'unsent' then
      s[PAFTER] = 0
    end
  end
  s[DIRTY] = true
  return freed
end

-- What the answer to a request of weight w told: `rem` requests left until `reset` (us). `granted`: when its request
-- was granted. Answers overtake each other, so the least that was told counts. Only a request granted after TOLD may
-- raise it, and what was answered since then may all have been counted by the server after this one.
local function tell(s, rem, reset, granted, w)
  if rem > 0 then reset = max(reset, now + TOLD_LEAST) end
  if granted >= s[SINCE] then s[MOST_TOLD] = max(s[MOST_TOLD], rem) end
  if granted < s[SINCE] then
    cost(s, w)
  elseif s[REM] < 0 or granted > s[TOLD] then
    s[REM] = s[REM] < 0 and rem or max(min(s[REM], rem), rem - s[HEARD])
    s[RESET], s[TOLD], s[HEARD] = reset, now, 0
  else
    s[REM], s[RESET], s[HEARD] = min(s[REM], rem), max(s[RESET], reset), s[HEARD] + w
  end
  s[DIRTY] = true
end

-- Close a limit until t. Parks never shorten; after one a probe goes first, and none that went before is it.
local function park_until(s, t)
  if s[PID] ~= 0 then wake_waiters(s, BY_ANSWER) end -- its answer opens nothing any more, the time does
  s[PARK], s[NEED], s[PID], s[DIRTY] = max(s[PARK], t), 1, 0, true
end

-- Refused at `at`: close it until t. granted: when the refused request of weight w was; guessed: the server did not say
-- until when, 1 = a guess of ours, 2 = the file does.
local function park_limit(s, at, t, granted, w, guessed)
  if granted > s[REFUSED] then -- one event, however many answers of that moment say it
    if s.learns then
      if s[REM] < 0 then learn_refused(s, granted, at, t, w, guessed > 0 and 1 or 0) end
    else
      t = slow_down(s, at, t, guessed)
    end
    if s[STREAK] > 0 then -- the probe was refused: what was told was too short
      local growth = min(GROWTH_MAX, PROBE_GAP * (guessed == 1 and 4 ^ s[STREAK] or 2 ^ (s[STREAK] - 1)))
      local more = guessed == 1 and 0 or min(growth, max(PROBE_GAP, (t - at) * TOO_SHORT))
      t = max(t + more, now + growth)
    end
    s[REFUSED], s[STREAK] = now, s[STREAK] + 1
  end
  park_until(s, t)
end

-- Forget what is known of a limit but for what is in flight; who waits for it looks again at the next event.
local function forget_limit(s)
  call('HDEL', P .. 'l', s[NAME])
  call('UNLINK', P .. 'lh:' .. s[NAME])
  for r = 1, #s[DEF] - 3 do call('HDEL', P .. 'slots', s[NAME] .. '#' .. r) end
  limits[s[NAME]] = nil
  if s[BUSY] > 0 then
    local fresh = limit_from(s[NAME], false)
    fresh[FLY], fresh[BUSY], fresh[DIRTY] = s[FLY], s[BUSY], true
  end
  if s[WAITED] > 0 then
    call('ZADD', P .. 'lp', num(now), '\0' .. s[NAME])
    note_event(now)
  end
end

local function save_limits()
  local states, slots = {}, {}
  for inst, s in pairs(limits) do
    if s[DIRTY] then
      s[DIRTY] = false
      local last = s.learns and L_LAST or TAT + PER_RATE * (#s[DEF] - 3) - 1
      states[#states + 1] = inst
      states[#states + 1] = spack(doubles(last - KEPT + 1), unpack(s, KEPT, last))
    end
    if s[SLOTS] then
      for i, sl in pairs(s[SLOTS]) do
        if sl.dirty then
          sl.dirty = nil
          write_newest(sl)
          slots[#slots + 1] = inst .. '#' .. i
          slots[#slots + 1] = spack('>ddd', sl.base, sl.total, sl.window) .. sl.body
        end
      end
    end
  end
  in_pieces('HSET', P .. 'l', states, 2)
  in_pieces('HSET', P .. 'slots', slots, 2)
end
