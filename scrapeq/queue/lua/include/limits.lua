-- limits: the state of each limit instance: what it grants now, and how grants and responses change it.
--   ld   hash  limit name -> {version, max_concurrency (0 = unlimited), learn (0|1), rate..., options}
--              rate: {limit, interval us, burst (0 = none), offset us of its calendar windows (only if it has them)}
--              options, optional: {reserve = {fraction, threshold, added to the threshold: the time (0|1)},
--              since = us of the last change}. Priorities below the threshold may not use the fraction of each quota
--   l    hash  instance ("name" or "name|partition") -> big-endian doubles, the fields below
-- NEEDS   base, groups
-- GIVES   definition_of(instance), learns(definition), limit_of(instance) -> state, load_limit(instance, raw),
--         prefetch_limits(instances), of_credential(instance, credential), lane_limits(lane)
--         check(s, weight, score), threshold_of(reserve), cap_of(s), most_ahead(rate), window_end(rate)
--         spend(s, nonce, w), charge_budget(s, w), settle(s, nonce, how, t, w, granted, refused, cost)
--         report_budget(s, remaining, reset, granted, w), report_refusal(s, at, t, granted, w, guessed)
--         park_until(s, t), wake_waiters(s, by), wake_if_sooner(s, by), forget_limit(s), doubles(n), save_limits()
--         and those of `slots`, `learn` and `pace`, which it includes
-- A state is a Lua array: four fields of the script, then the stored fields.
local DEF, NAME, DIRTY, SLOTS = 1, 2, 3, 4
local PARKED_UNTIL, LIMIT_PAUSED, IN_FLIGHT, PROBATION, PROBE, PROBE_AFTER = 5, 6, 7, 8, 9, 10
local REMAINING, RESET_AT, REPORTED_AT, REFUSED_AT, CONSECUTIVE_REFUSALS, WAKE_BY = 11, 12, 13, 14, 15, 16
local SPENT_SINCE_REPORT = 17 -- weight of the responses since REPORTED_AT
-- End of the last reported window that is over; requests granted earlier report on that window.
local LAST_WINDOW_END = 18
local WAKE_BEFORE = 19 -- the latest time at which the waiters look again anyway
local IN_FLIGHT_COUNT = 20 -- requests in flight; IN_FLIGHT is their weight
local HIGHEST_REMAINING = 21 -- reported in the current window
local HEAVIEST = 22 -- weight of the heaviest request that exceeded the whole limit
local DEFINED_AT = 23 -- `since` of the definition that PACED_TO belongs to
-- Declared rates are paced slower by this factor (1 = half the rate), as of this time.
local SLOWDOWN, SLOWDOWN_AT = 24, 25
-- Each rate has two fields: the time up to which it is paced; and when its full bucket was first spent without a
-- response (0 = not). A rate with calendar windows has the end of the window of its last response, and the weight
-- of the responses in that window. What a limit without declared rates has learned follows, see `learn`.
local PACED_TO, FIRST_SPENT_AT = 26, 27
local L_LIMIT, L_WINDOW, L_TRIAL, L_REFUSED_LIMIT, L_PHASE_START, L_ACCEPTED, L_STEP = 28, 29, 30, 31, 32, 33, 34
local L_REOPENED, L_PENDING, L_SHORTEST_WINDOW, L_WINDOW_ENDS, L_ROUNDING, L_SOURCE = 35, 36, 37, 38, 39, 40
local L_LIMIT_BEFORE_REFUSALS, L_REFUSED_TRIAL_WAIT, L_PACING = 41, 42, 43
local L_LAST = 43
local LEARNED_FIELDS = 39 -- stored fields of a learning limit; with declared rates (8 at most) there are fewer
local MIN_WEIGHT = 0.0009765625 -- the lightest request that weighs anything
local PROBE_GAP = 1000000 -- us; the shortest time between two probes
local GROWTH_MAX = 300000000 -- us; refused probes lengthen a park by this much at most
local TOO_SHORT = 0.1 -- share of a stated wait that a refused probe adds; at least one second
local TOLD_LEAST = 1000000 -- us; a reported budget holds for at least this long
local MIN_TIME = 1e14 -- us; FIRST_SPENT_AT holds a time or a weight, and smaller values are weights
-- WAKE_BY: the most frequent kind of event that may open the limit sooner than its waiters expect; rarer ones may, too.
local BY_REFUND, BY_USER, BY_RESPONSE = 1, 2, 3

-- PROBE: the nonce of the probe's lease; 0 = none in flight.
local FIRST_STORED, FIELDS_PER_RATE = 5, 2 -- index of the first stored field; fields of each rate

local defs, limits = {}, {}
local OPEN_DEF = {0, 0, 0}
local WEIGHT_MARK = '\2' -- separates a limit's name in a lane from the weight of the lane's requests there

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

-- Let the waiters look again if they wait for events of this kind, or of a more frequent one.
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

-- Return how far ahead of now (us) pacing reaches at most, whatever was charged.
local function most_ahead(rate) return max(rate[2], rate[3] * rate[2] / rate[1]) end

-- Return the end of the current calendar window.
local function window_end(rate) return rate[4] + (floor((now - rate[4]) / rate[2]) + 1) * rate[2] end

local function load_limit(inst, raw)
  local d = definition_of(inst)
  local s
  if raw then
    s = {d, inst, false, false, sunpack(doubles(#raw / 8), raw)}
    s[#raw / 8 + FIRST_STORED] = nil -- struct.unpack also returns the position after the last field
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
  -- The reported window is over: the budget is unknown until the next response.
  if s[REMAINING] >= 0 and s[RESET_AT] <= now then
    s[REMAINING], s[LAST_WINDOW_END], s[HIGHEST_REMAINING] = -1, s[RESET_AT], 0
    if d[4] == nil then s[PROBATION] = 1 end
    s[DIRTY] = true
  end
  if d.since and s[DEFINED_AT] ~= d.since then -- a former definition closes the limit no longer than this one can
    for i = 1, #d - 3 do
      local paced_to = PACED_TO + 2 * (i - 1)
      s[paced_to] = min(s[paced_to], d.since + most_ahead(d[3 + i]))
      if (s[paced_to + 1] < MIN_TIME) == not d[3 + i][4] then s[paced_to + 1] = 0 end -- the rate was of another kind
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

-- A lane whose name begins with '*' has limits of pools (see `pools`); a lease names the credential that it charges.
local POOLED = 42 -- '*'
local CREDENTIAL_MARK = '\1'
local LANE_AND_CREDENTIAL = '^([^\1]*)\1?(.*)$'
local function of_credential(inst, credential)
  return credential == '' and inst or (string.gsub(inst, '%*[%w_-]*', credential))
end

-- Return the limits of a lane by name. If any is charged other than 1: also `of` (name -> weight) and
-- `at` (index -> weight).
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

-- Return the most requests in flight while the rate is unknown.
local function cap_of(s)
  if s[DEF][2] > 0 then return s[DEF][2] end
  return s.learns and START_IN_FLIGHT + floor(s[L_ACCEPTED] / GROWTH) or START_IN_FLIGHT
end

-- Return the lowest priority that may use a reserve.
local function threshold_of(reserve) return reserve[2] + reserve[3] * now / 1000000 end

-- Return nil if the limit grants weight w to a task of this score (-priority) now. Else return when it opens (us;
-- NEVER = only an event opens it), the kind of event that may open it sooner, and its reserve if that may be the
-- reason.
local ANY = -math.huge -- a score above every threshold, for a grant without a task
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
    if s[REMAINING] - s[IN_FLIGHT] - withheld * s[HIGHEST_REMAINING] < w then
      return s[RESET_AT], BY_RESPONSE, reserve
    end
  elseif d[3] == 1 and d[4] == nil and s[PROBATION] == 0 and s[IN_FLIGHT] + w > cap_of(s) and s[IN_FLIGHT] > 0 then
    return NEVER, BY_RESPONSE
  end
  local opens, why -- of the rate that is closed longest: an earlier look would be in vain
  for i = 1, #d - 3 do
    local rate = d[3 + i]
    local paced_to, first_spent = s[PACED_TO + 2 * (i - 1)], s[FIRST_SPENT_AT + 2 * (i - 1)]
    if rate[4] then
      local used = s[IN_FLIGHT] + (paced_to > now and first_spent or 0)
      if used > 0 and used + w > rate[1] * (1 - withheld) then
        -- A refund may open it sooner.
        opens, why = max(opens or 0, paced_to > now and paced_to or window_end(rate)), max(why or 0, BY_USER)
      end
    else
      local period = pace(s, rate)
      local early = rate[3] < 0 and NEVER
        or rate[3] > 0 and (rate[3] - min(w, rate[3]) - withheld * rate[3]) * period
        or min(period, PACE_TOLERANCE)
      local t = paced_to - early
      if t > now then
        opens, why = max(opens or 0, t), max(why or 0, BY_REFUND)
      elseif first_spent > 0 and paced_to > now and t > first_spent then -- the refill is not confirmed yet
        opens, why = max(opens or 0, paced_to), BY_RESPONSE
      end
      if rate[3] <= 0 then
        local sl = slots_of(s, i)
        local used = s[IN_FLIGHT] + sl.total
        local over = used + w - rate[1] * (1 - withheld)
        if rate[3] < 0 and s[L_PACING] == TRYING and s[PROBATION] == 0
          and s[IN_FLIGHT] > 0 and s[IN_FLIGHT] + w > cap_of(s) then
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

-- Like wake_waiters, but only if the limit grants now, or sooner than the waiters look anyway.
local function wake_if_sooner(s, by)
  if s[WAKE_BY] < by then return end
  local t = check(s, MIN_WEIGHT, ANY)
  if not t or t < s[WAKE_BEFORE] then wake_waiters(s, by) end
end

-- Charge weight w to the lease with this nonce; on probation it becomes the probe.
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

-- Take a request off the reported budget because its response reported none.
local function charge_budget(s, w)
  if s[REMAINING] >= 0 then
    s[REMAINING], s[SPENT_SINCE_REPORT], s[DIRTY] = max(0, s[REMAINING] - w), s[SPENT_SINCE_REPORT] + w, true
  end
end

-- Settle a grant that was given at `granted`. how: 'answered' at time t, 'unsent' (refund), 'expired' (unknown).
-- w: its charged weight; cost: its real cost. Return whether more was freed than a response frees.
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
      if cost ~= w and rate[3] >= 0 then
        s[paced_to] = min(s[paced_to] + pace(s, rate) * (cost - w), now + most_ahead(rate))
      end
      if rate[3] <= 0 then
        if cost > 0 then stamp(s, i, t, cost) end
      elseif s[first_spent] > 0 and granted >= s[first_spent] then
        -- The server's bucket was full until a request reached it, so it refills from t on at the latest.
        s[paced_to], s[first_spent] = s[paced_to] + max(0, t - s[first_spent]), 0
      end
      -- The first request after a pause may travel longer than the next one, which would then come too early.
      if opened and (rate[3] == 0 or rate[3] == 1) then
        s[paced_to] = max(s[paced_to], min(t + pace(s, rate), now + most_ahead(rate)))
      end
    end
  end
  if how == 'expired' then charge_budget(s, cost) end -- it may have been sent
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

-- Apply the budget reported to a request of weight w: `remaining` requests until `reset` (us). `granted`: when the
-- request was granted. Responses overtake each other, so the lowest report counts. Only a request granted after
-- REPORTED_AT may raise the budget, and the server may have counted all later responses after this report.
local function report_budget(s, remaining, reset, granted, w)
  if remaining > 0 then reset = max(reset, now + TOLD_LEAST) end
  if granted >= s[LAST_WINDOW_END] then s[HIGHEST_REMAINING] = max(s[HIGHEST_REMAINING], remaining) end
  if granted < s[LAST_WINDOW_END] then
    charge_budget(s, w)
  elseif s[REMAINING] < 0 or granted > s[REPORTED_AT] then
    local least = remaining - s[SPENT_SINCE_REPORT]
    s[REMAINING] = s[REMAINING] < 0 and remaining or max(min(s[REMAINING], remaining), least)
    s[RESET_AT], s[REPORTED_AT], s[SPENT_SINCE_REPORT] = reset, now, 0
  else
    s[REMAINING], s[RESET_AT] = min(s[REMAINING], remaining), max(s[RESET_AT], reset)
    s[SPENT_SINCE_REPORT] = s[SPENT_SINCE_REPORT] + w
  end
  s[DIRTY] = true
end

-- Close a limit until t, but never shorten a park; afterwards a new probe goes first.
local function park_until(s, t)
  -- The former probe's response no longer opens it, the time does.
  if s[PROBE] ~= 0 then wake_waiters(s, BY_RESPONSE) end
  s[PARKED_UNTIL], s[PROBATION], s[PROBE], s[DIRTY] = max(s[PARKED_UNTIL], t), 1, 0, true
end

-- Close a limit until t because the server refused a request at `at`. granted, w: of that request. guessed: who stated
-- the wait: 0 = the server, 1 = scrapeq guessed, 2 = the configuration.
local function report_refusal(s, at, t, granted, w, guessed)
  if granted > s[REFUSED_AT] then -- refusals of requests in flight together count as one
    if s.learns then
      if s[REMAINING] < 0 then learn_refusal(s, granted, at, t, w, guessed > 0 and 1 or 0) end
    else
      t = slow_down(s, at, t, guessed)
    end
    if s[CONSECUTIVE_REFUSALS] > 0 then -- the probe was refused: the last wait was too short
      local doublings = guessed == 1 and 2 * s[CONSECUTIVE_REFUSALS] or s[CONSECUTIVE_REFUSALS] - 1
      local growth = min(GROWTH_MAX, PROBE_GAP * 2 ^ doublings)
      local more = guessed == 1 and 0 or min(growth, max(PROBE_GAP, (t - at) * TOO_SHORT))
      t = max(t + more, now + growth)
    end
    s[REFUSED_AT], s[CONSECUTIVE_REFUSALS] = now, s[CONSECUTIVE_REFUSALS] + 1
  end
  park_until(s, t)
end

-- Forget all but what is in flight; let the waiters look again at the next event.
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
