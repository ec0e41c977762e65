-- limits: the state of each limit instance, what it grants now, what a grant and an answer change.
--   ld   hash  limit name -> {version, max_concurrency (0 = none), learn (0|1), rate..., options}
--              rate: {limit, interval us, burst (0 = none), offset us of its calendar windows (none = no such)}
--              options, if there are any: {reserve = {fraction, line, its part that is now (0|1)}, since = us of the
--              last change}. What is below the line (a priority) leaves the fraction of each quota alone
--   l    hash  instance ("name" or "name|partition") -> big-endian doubles, fields below
-- GIVES   limit_of, prefetch_limits, check, wake_if_sooner, spend, cost, settle, tell, report_refusal, forget_limit, save_limits, lane_limits,
--         and those of `learn`
-- A state here is an array: four fields of ours, then those that are kept
local DEF, NAME, DIRTY, SLOTS = 1, 2, 3, 4
local PARKED_UNTIL, LIMIT_PAUSED, IN_FLIGHT, PROBATION, PROBE, PROBE_AFTER = 5, 6, 7, 8, 9, 10
local REMAINING, RESET_AT, REPORTED_AT, REFUSED_AT, CONSECUTIVE_REFUSALS, WAKE_BY = 11, 12, 13, 14, 15, 16
local SPENT_SINCE_REPORT = 17 -- weight answered since REPORTED_AT
local LAST_WINDOW_END = 18 -- the end of the last told window; what was granted before it tells of one that is over
local WAKE_BEFORE = 19 -- the latest time at which who waits looks anyway
local IN_FLIGHT_COUNT, HIGHEST_REMAINING, HEAVIEST, DEFINED_AT = 20, 21, 22, 23 -- requests in flight (IN_FLIGHT is their weight); the most that was told
-- in this told window; the heaviest request that was more than the whole limit; the definition's `since` that PACED_TO fits
local SLOWDOWN, SLOWDOWN_AT = 24, 25 -- declared rates are paced so much slower (1 = half), as of when
local PACED_TO, FIRST_SPENT_AT = 26, 27 -- per rate two fields: paced up to then; when its full bucket was asked, until an answer comes
-- of a rate with calendar windows: the end of the one it was last answered in; the weight answered in it
-- of a limit without declared rates, what is learned: see `learn`
local L_LIMIT, L_WINDOW, L_TRIAL, L_REFUSED_LIMIT, L_PHASE_START, L_ACCEPTED, L_STEP = 28, 29, 30, 31, 32, 33, 34
local L_REOPENED, L_PENDING, L_SHORTEST_WINDOW, L_WINDOW_ENDS, L_ROUNDING, L_SOURCE = 35, 36, 37, 38, 39, 40
local L_LIMIT_BEFORE_REFUSALS, L_REFUSED_TRIAL_WAIT, L_PACING = 41, 42, 43
local L_LAST = 43
local LEARNED_FIELDS = 39              -- fields that are kept of such a limit; with declared rates, of which there are 8 at most, they are fewer
local MIN_WEIGHT = 0.0009765625 -- of a request that weighs anything
local PROBE_GAP = 1000000       -- us between two probes of one limit, at least
local GROWTH_MAX = 300000000    -- us; a park after refused probes grows by itself up to this
local TOO_SHORT = 0.1           -- of a told wait that a refused probe adds at most, or a second
local TOLD_LEAST = 1000000      -- us; what is told to be left stays so for this time at least
local MIN_TIME = 1e14             -- us; less is no time of ours but a weight: FIRST_SPENT_AT holds either
-- WAKE_BY says what may open the limit sooner than those think who wait for it
local BY_REFUND, BY_USER, BY_RESPONSE = 1, 2, 3

-- PROBE: the nonce of the probe's lease; 0 = none is on its way
local FIRST_STORED, FIELDS_PER_RATE = 5, 2 -- the first field that is kept; fields a rate

local defs, limits = {}, {}
local OPEN_DEF = {0, 0, 0}
local WEIGHT_MARK = '\2' -- between a limit's name in a lane and what a request of the lane weighs there

local function definition_of(inst)
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
  if s[WAKE_BY] >= by then
    s[WAKE_BY], s[WAKE_BEFORE], s[DIRTY] = 0, 0, true
    wake_limit(s[NAME])
  end
end

local function learns(d) return d[3] == 1 and d[4] == nil end

-- @include slots
-- @include learn

-- @include pace

-- How far ahead (us) a rate is paced at most, whatever was charged.
local function most_ahead(rate) return max(rate[2], rate[3] * rate[2] / rate[1]) end

-- The end of the calendar window that holds now.
local function window_end(rate) return rate[4] + (floor((now - rate[4]) / rate[2]) + 1) * rate[2] end

local function load_limit(inst, raw)
  local d = definition_of(inst)
  local s
  if raw then
    s = {d, inst, false, false, sunpack(doubles(#raw / 8), raw)}
    s[#raw / 8 + FIRST_STORED] = nil -- where reading ended
  else
    s = {d, inst, false, false, 0, 0, 0, d[3], 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, d.since or 0, 0, 0}
  end
  if learns(d) then
    s.learns = true
    if not raw or #raw / 8 ~= LEARNED_FIELDS then
      s[PACED_TO] = s[PACED_TO] or 0
      for i = FIRST_SPENT_AT, L_LAST do s[i] = 0 end
      s[L_REOPENED] = 1
    elseif s[L_LIMIT] > 0 then
      apply_learned(s)
      d = s[DEF]
    end
  else
    if raw and #raw / 8 == LEARNED_FIELDS then for i = L_LIMIT, L_LAST do s[i] = nil end end
    for i = PACED_TO, PACED_TO + FIELDS_PER_RATE * (#d - 3) - 1 do s[i] = s[i] or 0 end
  end
  if s[REMAINING] >= 0 and s[RESET_AT] <= now then -- the told window is over: nothing is known until the next answer
    s[REMAINING], s[LAST_WINDOW_END], s[HIGHEST_REMAINING] = -1, s[RESET_AT], 0
    if d[4] == nil then s[PROBATION] = 1 end
    s[DIRTY] = true
  end
  if d.since and s[DEFINED_AT] ~= d.since then -- what was paced by other rates closes no longer than these ever do
    for i = 1, #d - 3 do
      local paced_to = PACED_TO + 2 * (i - 1)
      s[paced_to] = min(s[paced_to], d.since + most_ahead(d[3 + i]))
      if (s[paced_to + 1] < MIN_TIME) == not d[3 + i][4] then s[paced_to + 1] = 0 end -- it was of another kind
    end
    s[DEFINED_AT], s[DIRTY] = d.since, true
  end
  limits[inst] = s
  return s
end

local function limit_of(inst)
  return limits[inst] or load_limit(inst, call('HGET', P .. 'l', inst))
end

local function prefetch_limits(names)
  if #names == 0 then return end
  local raw = call('HMGET', P .. 'l', unpack(names))
  for i = 1, #names do
    if not limits[names[i]] then load_limit(names[i], raw[i]) end
  end
end

-- A lane that begins with '*' has limits that are pools (see `pools`); a lease names the member that it is charged to.
local POOLED = 42 -- '*'
local CREDENTIAL_MARK = '\1'
local LANE_AND_CREDENTIAL = '^([^\1]*)\1?(.*)$'
local function of_credential(inst, credential) return credential == '' and inst or (string.gsub(inst, '%*[%w_-]*', credential)) end

-- The limits of a lane by name; where one is charged other than 1: `of` (name -> weight) and `at` (place -> weight).
local lane_lists = {}
local function lane_limits(lane)
  if lane == '' then return {} end
  local list = lane_lists[lane]
  if not list then
    local base, credential = lane, nil
    if string.byte(lane) == POOLED then base, credential = string.match(lane, LANE_AND_CREDENTIAL) end
    local raw = call('HGET', P .. 'lane', base)
    list = {}
    for name in string.gmatch(raw or '', '[^%z]+') do
      local at = string.find(name, WEIGHT_MARK, 1, true)
      if at then
        local weight = tonumber(sub(name, at + 1))
        name = sub(name, 1, at - 1)
        if credential then name = of_credential(name, credential) end
        if not list.of then list.of, list.at = {}, {} end
        list.of[name], list.at[#list + 1] = weight, weight
      elseif credential then
        name = of_credential(name, credential)
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
  return s.learns and START_IN_FLIGHT + floor(s[L_ACCEPTED] / GROWTH) or START_IN_FLIGHT
end

-- The priority from which on a reserve may be used.
local function threshold_of(reserve) return reserve[2] + reserve[3] * now / 1000000 end

-- Does the limit grant weight w to a task of this score (-priority) now?
-- -> nil: yes. Else the time (us) it opens, NEVER when only an event can open it; what may open it sooner; and its
-- reserve where that may be the reason.
local ANY = -math.huge -- the score of what is above every line: a grant without a task
local function check(s, w, score)
  local d = s[DEF]
  local reserve, withheld = d.reserve, 0
  if reserve then
    if -score < threshold_of(reserve) then withheld = reserve[1] else reserve = nil end
  end
  if s[LIMIT_PAUSED] == 1 then return NEVER, BY_USER end
  if s[PARKED_UNTIL] > now then return s[PARKED_UNTIL], BY_USER end
  if s[PROBATION] == 1 then
    if s[PROBE] ~= 0 then return NEVER, BY_RESPONSE end
    if s[PROBE_AFTER] > now then return s[PROBE_AFTER], BY_USER end
  end
  if d[2] > 0 and s[IN_FLIGHT_COUNT] >= d[2] then return NEVER, BY_RESPONSE end
  if w == 0 then return nil end
  if s[REMAINING] >= 0 then
    if s[REMAINING] - s[IN_FLIGHT] - withheld * s[HIGHEST_REMAINING] < w then return s[RESET_AT], BY_RESPONSE, reserve end
  elseif d[3] == 1 and d[4] == nil and s[PROBATION] == 0 and s[IN_FLIGHT] + w > cap_of(s) and s[IN_FLIGHT] > 0 then
    return NEVER, BY_RESPONSE
  end
  local opens, why -- of the rates that are closed the latest, for who looks earlier looks in vain
  for i = 1, #d - 3 do
    local rate = d[3 + i]
    local paced_to, first_spent = s[PACED_TO + 2 * (i - 1)], s[FIRST_SPENT_AT + 2 * (i - 1)]
    if rate[4] then
      local used = s[IN_FLIGHT] + (paced_to > now and first_spent or 0)
      if used > 0 and used + w > rate[1] * (1 - withheld) then
        -- ... or when what was not spent comes back
        opens, why = max(opens or 0, paced_to > now and paced_to or window_end(rate)), max(why or 0, BY_USER)
      end
    else
      local period = pace(s, rate)
      local early = rate[3] < 0 and NEVER or rate[3] > 0 and (rate[3] - min(w, rate[3]) - withheld * rate[3]) * period or min(period, PACE_TOLERANCE)
      local t = paced_to - early
      if t > now then
        opens, why = max(opens or 0, t), max(why or 0, BY_REFUND)
      elseif first_spent > 0 and paced_to > now and t > first_spent then -- not known to refill yet
        opens, why = max(opens or 0, paced_to), BY_RESPONSE
      end
      if rate[3] <= 0 then
        local sl = slots_of(s, i)
        local used = s[IN_FLIGHT] + sl.total
        local over = used + w - rate[1] * (1 - withheld)
        if rate[3] < 0 and s[L_PACING] == TRYING and s[PROBATION] == 0 and s[IN_FLIGHT] > 0 and s[IN_FLIGHT] + w > cap_of(s) then
          return NEVER, BY_RESPONSE, reserve
        end
        if over > 0 and used > 0 then
          if not sl.oldest then return NEVER, BY_RESPONSE, reserve end
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
  if s[WAKE_BY] < by then return end
  local t = check(s, MIN_WEIGHT, ANY)
  if not t or t < s[WAKE_BEFORE] then wake_waiters(s, by) end
end


-- Grant weight w to the lease of nonce `who`; after a park it is the probe.
local function spend(s, nonce, w)
  local d = s[DEF]
  if s.learns then learn_grant(s) end
  s[IN_FLIGHT], s[IN_FLIGHT_COUNT] = s[IN_FLIGHT] + w, s[IN_FLIGHT_COUNT] + 1
  for i = 1, #d - 3 do
    local rate, paced_to, first_spent = d[3 + i], PACED_TO + 2 * (i - 1), FIRST_SPENT_AT + 2 * (i - 1)
    if w > 1 and w > (rate[3] > 0 and rate[3] or rate[1]) then s[HEAVIEST] = max(s[HEAVIEST], w) end
    if not rate[4] and w > 0 and rate[3] >= 0 then
      if s[paced_to] <= now then s[paced_to], s[first_spent] = now, rate[3] > 1 and now or 0 end
      s[paced_to] = min(s[paced_to] + pace(s, rate) * w, now + most_ahead(rate))
    end
  end
  s[DIRTY] = true
  if s[PROBATION] == 1 then
    local period = d[4] and not d[4][4] and d[4][2] / d[4][1] or 0
    s[PROBE], s[PROBE_AFTER] = nonce, now + max(period, PROBE_GAP)
  end
end

-- A request has cost its weight, and no answer tells what is left now.
local function charge_budget(s, w)
  if s[REMAINING] >= 0 then
    s[REMAINING], s[SPENT_SINCE_REPORT], s[DIRTY] = max(0, s[REMAINING] - w), s[SPENT_SINCE_REPORT] + w, true
  end
end

-- A grant, given at `granted`, has come to its end. how: 'answered' at time t, 'unsent' (refunded), 'expired' (nobody
-- knows). w: what it was charged; paid: what it has cost. -> whether more is free than an answer frees
local function settle(s, nonce, how, t, w, granted, refused, cost)
  local freed = cost < w
  s[IN_FLIGHT], s[IN_FLIGHT_COUNT] = max(0, s[IN_FLIGHT] - w), max(0, s[IN_FLIGHT_COUNT] - 1)
  local opened = s[PROBE] == nonce and how == 'answered' and not refused
  if s.learns and how == 'answered' and not refused then
    if opened then learn_probe_success(s, granted, cost) else learn_success(s, granted, cost) end
  end
  local d = s[DEF]
  for i = 1, #d - 3 do
    local rate, paced_to, first_spent = d[3 + i], PACED_TO + 2 * (i - 1), FIRST_SPENT_AT + 2 * (i - 1)
    if rate[4] then
      if s[paced_to] <= now then s[paced_to], s[first_spent] = window_end(rate), 0 end
      if how == 'unsent' or t < s[paced_to] - rate[2] then freed = true else s[first_spent] = s[first_spent] + cost end
    elseif how == 'unsent' then
      if rate[3] >= 0 then s[paced_to] = s[paced_to] - pace(s, rate) * w end
    else
      if cost ~= w and rate[3] >= 0 then s[paced_to] = min(s[paced_to] + pace(s, rate) * (cost - w), now + most_ahead(rate)) end
      if rate[3] <= 0 then
        if cost > 0 then stamp(s, i, t, cost) end
      elseif s[first_spent] > 0 and granted >= s[first_spent] then
        -- the server's bucket was full until a request reached it, at t at the latest: only from then on it refills
        s[paced_to], s[first_spent] = s[paced_to] + max(0, t - s[first_spent]), 0
      end
      -- a request after a pause reaches the server later than the next one would after it
      if opened and (rate[3] == 0 or rate[3] == 1) then
        s[paced_to] = max(s[paced_to], min(t + pace(s, rate), now + most_ahead(rate)))
      end
    end
  end
  if how == 'expired' then charge_budget(s, cost) end -- it may have been spent
  if s[PROBE] == nonce then
    s[PROBE] = 0
    if opened then
      s[PROBATION], s[CONSECUTIVE_REFUSALS], s[PROBE_AFTER] = 0, 0, 0
    elseif how == 'unsent' then
      s[PROBE_AFTER] = 0
    end
  end
  s[DIRTY] = true
  return freed
end

-- What the answer to a request of weight w told: `rem` requests left until `reset` (us). `granted`: when its request
-- was granted. Answers overtake each other, so the least that was told counts. Only a request granted after REPORTED_AT may
-- raise it, and what was answered since then may all have been counted by the server after this one.
local function report_budget(s, remaining, reset, granted, w)
  if remaining > 0 then reset = max(reset, now + TOLD_LEAST) end
  if granted >= s[LAST_WINDOW_END] then s[HIGHEST_REMAINING] = max(s[HIGHEST_REMAINING], remaining) end
  if granted < s[LAST_WINDOW_END] then
    charge_budget(s, w)
  elseif s[REMAINING] < 0 or granted > s[REPORTED_AT] then
    s[REMAINING] = s[REMAINING] < 0 and remaining or max(min(s[REMAINING], remaining), remaining - s[SPENT_SINCE_REPORT])
    s[RESET_AT], s[REPORTED_AT], s[SPENT_SINCE_REPORT] = reset, now, 0
  else
    s[REMAINING], s[RESET_AT], s[SPENT_SINCE_REPORT] = min(s[REMAINING], remaining), max(s[RESET_AT], reset), s[SPENT_SINCE_REPORT] + w
  end
  s[DIRTY] = true
end

-- Close a limit until t. Parks never shorten; after one a probe goes first, and none that went before is it.
local function park_until(s, t)
  if s[PROBE] ~= 0 then wake_waiters(s, BY_RESPONSE) end -- its answer opens nothing any more, the time does
  s[PARKED_UNTIL], s[PROBATION], s[PROBE], s[DIRTY] = max(s[PARKED_UNTIL], t), 1, 0, true
end

-- Refused at `at`: close it until t. granted: when the refused request of weight w was; guessed: the server did not say
-- until when, 1 = a guess of ours, 2 = the file does.
local function report_refusal(s, at, t, granted, w, guessed)
  if granted > s[REFUSED_AT] then -- one event, however many answers of that moment say it
    if s.learns then
      if s[REMAINING] < 0 then learn_refusal(s, granted, at, t, w, guessed > 0 and 1 or 0) end
    else
      t = slow_down(s, at, t, guessed)
    end
    if s[CONSECUTIVE_REFUSALS] > 0 then -- the probe was refused: what was told was too short
      local growth = min(GROWTH_MAX, PROBE_GAP * (guessed == 1 and 4 ^ s[CONSECUTIVE_REFUSALS] or 2 ^ (s[CONSECUTIVE_REFUSALS] - 1)))
      local more = guessed == 1 and 0 or min(growth, max(PROBE_GAP, (t - at) * TOO_SHORT))
      t = max(t + more, now + growth)
    end
    s[REFUSED_AT], s[CONSECUTIVE_REFUSALS] = now, s[CONSECUTIVE_REFUSALS] + 1
  end
  park_until(s, t)
end

-- Forget what is known of a limit but for what is in flight; who waits for it looks again at the next event.
local function forget_limit(s)
  call('HDEL', P .. 'l', s[NAME])
  call('UNLINK', P .. 'lh:' .. s[NAME])
  for r = 1, #s[DEF] - 3 do call('HDEL', P .. 'slots', s[NAME] .. '#' .. r) end
  limits[s[NAME]] = nil
  if s[IN_FLIGHT_COUNT] > 0 then
    local fresh = load_limit(s[NAME], false)
    fresh[IN_FLIGHT], fresh[IN_FLIGHT_COUNT], fresh[DIRTY] = s[IN_FLIGHT], s[IN_FLIGHT_COUNT], true
  end
  if s[WAKE_BY] > 0 then
    call('ZADD', P .. 'lp', num(now), '\0' .. s[NAME])
    note_event(now)
  end
end

local function save_limits()
  local states, slots = {}, {}
  for inst, s in pairs(limits) do
    if s[DIRTY] then
      s[DIRTY] = false
      local last = s.learns and L_LAST or PACED_TO + FIELDS_PER_RATE * (#s[DEF] - 3) - 1
      states[#states + 1] = inst
      states[#states + 1] = spack(doubles(last - FIRST_STORED + 1), unpack(s, FIRST_STORED, last))
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
