-- learn: the learner of a limit without declared rates: how many requests in which window
--        (docs/explanation/limits.md). It does the same as scrapeq/limits/learning.py, on fields of the limit's state.
--   lh:<instance>  list  its history, newest first: "us limit window-us source trial"
-- NEEDS   base; of limits: the fields, wake_waiters; of slots: slots_of
-- GIVES   apply_learned(s, changed), learn_grant(s), learn_success(s, granted, w)
--         learn_refusal(s, granted, t, until_t, w, guessed), learn_probe_success(s, granted, w)
--         learn_stated_rate(s, limit, window), forget_responses(s)
-- LOCAL   start_phase, next_trial, rounding_of, answered_in_window, lower, likely_window, is_common
local START_IN_FLIGHT = 2 -- the most in flight before a rate is known, after the first response
local GROWTH = 256 -- responses that allow one more in flight
local IDLE_US = 10000000 -- a longer pause does not count as sending time
local NEAR, WIDE = 1.01, 1.04 -- bounds this close are equal; further apart they are worth an early trial
local CALM_WINDOWS, CALM_US = 7, 40000000 -- before a trial that is likely to be refused
local TRIAL_US = 5000000 -- a trial takes one window, and at least this long
local COARSE = 20 -- fewer requests in an uncommon window are scaled up to this many
local LOWER, LOWER_MAX, LOWER_DOUBLINGS = 0.02, 0.25, 4 -- taken off after a refusal that shows no size
local OTHER_WINDOW = 1.25 -- a refusal that implies a window longer by this factor shows another window
local COST_TIMES = 12 -- the next trial waits this many times as long as the last refused one closed the limit
local OUTAGE = 2 -- consecutive refused probes after which the whole server is closed
local FRESH = 1.5 -- windows after a reopening in which all requests since then count against one window
local LATE_US = 250000 -- a window that differs from the known one by less is the same
local TRAVEL, TRAVEL_US = 1.5, 10000 -- share of the round trip, and a constant, by which a window may seem longer
local SOON_US = 500000 -- a refused probe with a shorter wait does not know when the limit opens
local SECOND = 1000000
local LEAST, LEAST_WINDOW_US = 0.1, 10000
local REPORTED, GUESSED = 1, 2 -- how the end of a pending window estimate is known
local LEARNED, DECLARED = 1, 2
-- Whether the whole quota may be spent at once: no, being tried, yes; 0 = not tried.
local PACED, TRYING, AT_ONCE = -1, 1, 2
local FAST = 0.7 -- share of a window: a quota spent sooner was spent at once
local SHOWN_BURST = 0.5 -- share of a window: a first refusal sooner suggests that bursts are allowed
local FULL = 0.9 -- share of the limit that a refused burst must have reached to say anything about its size
local HISTORY = 64 -- stored changes

local STEPS = {1.05, 1.2, 1.5, 2}
-- Seconds, the most common first.
local WINDOWS = {60, 1, 10, 3600, 86400, 30, 5, 300, 900, 15, 20, 2, 3, 600, 1800, 120, 6, 12, 4, 43200, 21600, 7200}

-- Put into force what is known now. Waiters that were closed by other rules look again.
local function apply_learned(s, changed)
  local base = definition_of(s[NAME])
  if s[L_LIMIT] > 0 then
    local trial = s[L_TRIAL] > 0
    local burst = s[L_PACING] > 0 and not trial and -1 or 0 -- -1 = not paced
    s[DEF] = {base[1], base[2], 1, {trial and s[L_TRIAL] or s[L_LIMIT], s[L_WINDOW], burst}}
    s[DEF].reserve, s[DEF].since = base.reserve, base.since
  else
    s[DEF] = base
  end
  if changed then
    local key = P .. 'lh:' .. s[NAME]
    local line = fmt(' %.17g %.0f %d %.17g', s[L_LIMIT], s[L_WINDOW], s[L_SOURCE], s[L_TRIAL])
    local last = call('LINDEX', key, 0)
    if not last or sub(last, string.find(last, ' ', 1, true), -1) ~= line then
      call('LPUSH', key, fmt('%.0f', now) .. line)
      call('LTRIM', key, 0, HISTORY - 1)
    end
    wake_waiters(s, BY_REFUND)
  end
end

-- The responses in a window of another length say nothing.
local function forget_responses(s)
  call('HDEL', P .. 'slots', s[NAME] .. '#1')
  s[SLOTS] = false
end

local function learn_grant(s)
  if s[L_LIMIT] > 0 then return end
  if s[L_PENDING] == 0 then
    if s[L_PHASE_START] == 0 then
      s[L_PHASE_START] = now
    elseif s[IN_FLIGHT] == 0 and now - s[PACED_TO] > IDLE_US then
      s[L_PHASE_START] = s[L_PHASE_START] + (now - s[PACED_TO])
    end
  end
  s[PACED_TO] = now -- nothing is paced yet, so this field holds the last grant
end

local function start_phase(s, t, reopened)
  s[L_PHASE_START], s[L_ACCEPTED], s[L_REOPENED] = t, 0, reopened
end

local function next_trial(s)
  if s[L_TRIAL] > 0 then
    if s[L_ACCEPTED] < s[L_TRIAL] * max(1, TRIAL_US / s[L_WINDOW]) then return end
    s[L_LIMIT], s[L_TRIAL], s[L_STEP], s[L_SOURCE] = s[L_TRIAL], 0, s[L_STEP] + 1, LEARNED
    if s[L_REFUSED_LIMIT] > s[L_LIMIT] * WIDE then
      start_phase(s, now, 0)
      apply_learned(s, true)
      return
    end
    s[L_REFUSED_LIMIT] = 0
  else
    if s[L_SOURCE] == DECLARED then return end
    local calm = s[L_LIMIT]
    if s[L_REFUSED_LIMIT] > 0 and s[L_REFUSED_LIMIT] <= s[L_LIMIT] * WIDE then
      calm = s[L_LIMIT] * max(CALM_WINDOWS, CALM_US / s[L_WINDOW], COST_TIMES * s[L_REFUSED_TRIAL_WAIT] / s[L_WINDOW])
    end
    if s[L_ACCEPTED] < calm then return end
  end
  if s[L_REFUSED_LIMIT] > s[L_LIMIT] * WIDE then
    s[L_TRIAL] = (s[L_LIMIT] + s[L_REFUSED_LIMIT]) / 2
  elseif s[L_REFUSED_LIMIT] > s[L_LIMIT] * NEAR then
    s[L_TRIAL] = s[L_REFUSED_LIMIT]
  else
    s[L_TRIAL] = s[L_LIMIT] * STEPS[min(max(s[L_STEP], 0), #STEPS - 1) + 1]
  end
  start_phase(s, now, 0)
  apply_learned(s, true)
end

-- A response arrived that is neither a refusal nor the probe's.
local function learn_success(s, granted, w)
  if granted < s[L_PHASE_START] then return end
  s[L_ACCEPTED] = s[L_ACCEPTED] + w
  if s[L_PACING] == TRYING and s[L_ACCEPTED] >= s[L_LIMIT] * FULL then
    s[L_PACING] = now - s[L_PHASE_START] <= s[L_WINDOW] * FAST and AT_ONCE or PACED
    apply_learned(s, true)
  end
  if s[L_LIMIT] > 0 and s[PROBATION] == 0 and s[PARKED_UNTIL] <= now and s[L_PENDING] == 0 then next_trial(s) end
end

local function rounding_of(wait) return wait % SECOND == 0 and SECOND or 0 end

-- Return the weight of the responses in the window that ends at `until_t`.
local function answered_in_window(s, until_t, rounding)
  local cut = until_t - s[L_WINDOW] - rounding
  local sl = slots_of(s, 1)
  local tick, sum, pos = sl.window / TICKS, 0, 1
  while pos < #sl.body do
    local ticks, units = sunpack('>I3I3', sl.body, pos)
    if sl.base + ticks * tick > cut then sum = sum + units / UNIT end
    pos = pos + SLOT
  end
  if sl.count > 0 and sl.base + sl.ticks * tick > cut then sum = sum + sl.count end
  return sum
end

-- Lower a refused `limit`, at most to `to`; shown: the refusal showed that `to` would have been accepted.
local function lower(s, to, limit, shown)
  s[L_STEP] = min(s[L_STEP], 0) - 1
  if s[L_LIMIT_BEFORE_REFUSALS] == 0 then s[L_LIMIT_BEFORE_REFUSALS] = limit end
  local less = min(LOWER * 2 ^ min(-s[L_STEP] - 1, LOWER_DOUBLINGS), LOWER_MAX)
  s[L_LIMIT] = max(LEAST, min(to, limit * (1 - less)))
  s[L_REFUSED_LIMIT] = shown and s[L_LIMIT] * NEAR or limit
  s[L_SOURCE] = LEARNED
end

-- Refused at t, closed until `until_t`; guessed (0|1): the server did not state that.
local function learn_refusal(s, granted, t, until_t, w, guessed)
  local finish = guessed == 1 and GUESSED or REPORTED
  local late = (t - granted) * TRAVEL + TRAVEL_US
  if s[CONSECUTIVE_REFUSALS] > 0 then -- the probe was refused
    if s[CONSECUTIVE_REFUSALS] >= OUTAGE and s[L_LIMIT] > 0 and guessed == 0 then
      s[L_PENDING] = 0
      if s[L_LIMIT_BEFORE_REFUSALS] > 0 then
        s[L_LIMIT], s[L_LIMIT_BEFORE_REFUSALS] = s[L_LIMIT_BEFORE_REFUSALS], 0
        s[L_REFUSED_LIMIT] = s[L_LIMIT] * NEAR
        apply_learned(s, true)
      end
    elseif s[L_PENDING] > 0 then
      s[L_SHORTEST_WINDOW], s[L_WINDOW_ENDS] = max(s[L_SHORTEST_WINDOW], t - s[L_PHASE_START] - late), until_t
      s[L_PENDING] = until_t - t < SOON_US and GUESSED or finish
      s[L_ROUNDING] = late + rounding_of(until_t - t)
    end
    return
  end
  if s[L_PACING] > 0 and s[L_TRIAL] == 0 then
    local tried = s[L_PACING] == TRYING
    s[L_PACING] = PACED
    apply_learned(s, true)
    -- Only the burst was refused; its size is still unknown.
    if tried and s[L_ACCEPTED] < s[L_LIMIT] * FULL then return end
  end
  local rounding = rounding_of(until_t - t)
  local longer = guessed == 0 and until_t - t > s[L_WINDOW] * OTHER_WINDOW + SECOND
  local fresh = s[L_REOPENED] == 1 and t - s[L_PHASE_START] <= s[L_WINDOW] * FRESH
  if s[L_LIMIT] == 0 or ((fresh or longer) and s[L_TRIAL] == 0) then
    s[L_PENDING], s[L_SHORTEST_WINDOW], s[L_WINDOW_ENDS] = finish, t - s[L_PHASE_START] - late, until_t
  else
    local inside = answered_in_window(s, until_t, rounding) + max(0, s[IN_FLIGHT] - w)
    if s[L_TRIAL] > 0 then
      local shown = guessed == 1 and (s[L_LIMIT] + s[L_TRIAL]) / 2 or inside
      s[L_REFUSED_TRIAL_WAIT], s[L_LIMIT_BEFORE_REFUSALS] = until_t - t, s[L_LIMIT]
      s[L_LIMIT] = min(s[L_LIMIT], max(shown, s[L_LIMIT] * (1 - LOWER_MAX)))
      s[L_REFUSED_LIMIT] = min(max(shown, s[L_LIMIT] * NEAR), s[L_TRIAL])
      s[L_TRIAL], s[L_STEP] = 0, 0
      apply_learned(s, true)
      return
    end
    lower(s, guessed == 1 and s[L_LIMIT] or max(inside, s[L_LIMIT] * (1 - LOWER_MAX)), s[L_LIMIT], guessed == 0)
    apply_learned(s, true)
  end
  s[L_ROUNDING] = late + rounding
end

-- Return the window between two bounds: the known one, else the most common one, else the upper bound. A reported end
-- may be late by `rounding`.
local function likely_window(known, least, most, finish, rounding)
  if finish == REPORTED then least = max(least, most - rounding) end
  if known > 0 and least - LATE_US < known and known <= most + LATE_US then return known end
  for i = 1, #WINDOWS do
    local w = WINDOWS[i] * SECOND
    if least < w and w <= most then return w end
  end
  return most
end

local function is_common(window)
  for i = 1, #WINDOWS do if window / SECOND == WINDOWS[i] then return true end end
  return false
end

-- The probe, granted at `granted`, was accepted.
local function learn_probe_success(s, granted, w)
  local changed = s[L_TRIAL] > 0
  if s[L_PENDING] > 0 then
    local reported = s[L_PENDING] == REPORTED
    local most = (reported and s[L_WINDOW_ENDS] or now) - s[L_PHASE_START]
    local window = likely_window(s[L_WINDOW], s[L_SHORTEST_WINDOW], most, s[L_PENDING], s[L_ROUNDING])
    if reported and s[L_ROUNDING] >= SECOND then window = max(window, SECOND) end
    local counted = max(s[L_ACCEPTED], LEAST)
    changed = true
    if s[L_ACCEPTED] == 0 then
      changed = s[L_TRIAL] > 0 -- nothing was accepted in this phase, so its length says nothing about the size
    elseif s[L_LIMIT] == 0 then
      if counted < COARSE and not is_common(window) then counted, window = COARSE, window * COARSE / counted end
      s[L_LIMIT], s[L_WINDOW] = counted, max(window, LEAST_WINDOW_US)
      s[L_REFUSED_LIMIT], s[L_SOURCE] = reported and counted * NEAR or 0, LEARNED
      local fast = s[L_SHORTEST_WINDOW] <= s[L_WINDOW] * SHOWN_BURST
      s[L_PACING] = reported and fast and is_common(s[L_WINDOW]) and TRYING or PACED
      forget_responses(s)
    elseif window > s[L_WINDOW] * OTHER_WINDOW then
      local old = s[L_LIMIT] * window / s[L_WINDOW]
      s[L_WINDOW] = window
      lower(s, counted, old, reported)
      forget_responses(s)
    elseif window * NEAR >= s[L_WINDOW] then
      lower(s, counted, s[L_LIMIT], reported)
    else -- a bucket that refills gradually; assume a high limit rather than a low one
      local span = max(s[L_SHORTEST_WINDOW], most - s[L_ROUNDING], LEAST_WINDOW_US)
      lower(s, counted * s[L_WINDOW] / span, s[L_LIMIT], reported)
    end
    s[L_PENDING] = 0
  end
  s[L_TRIAL], s[L_LIMIT_BEFORE_REFUSALS] = 0, 0
  start_phase(s, granted, 1)
  s[L_ACCEPTED] = w
  if changed then apply_learned(s, true) end
end

-- A response stated size and window.
local function learn_stated_rate(s, limit, window)
  window = max(window, LEAST_WINDOW_US)
  if s[L_SOURCE] == LEARNED or (limit == s[L_LIMIT] and window == s[L_WINDOW]) then return end
  if window ~= s[L_WINDOW] then forget_responses(s) end
  s[L_LIMIT], s[L_WINDOW], s[L_TRIAL], s[L_REFUSED_LIMIT], s[L_SOURCE] = limit, window, 0, 0, DECLARED
  s[L_PACING] = PACED
  apply_learned(s, true)
end
