-- pace: the time between two grants of a rate, and how refusals lengthen it.
-- NEEDS   base, and of limits: the fields
-- GIVES   pace(s, rate) -> us, slow_of(s, rate), slow_down(s, at, t, guessed) -> us
local PACE_TOLERANCE = 20000 -- us; a paced grant may be early by this much, a late one would waste quota
local SLOWER, SLOW_MAX = 0.05, 3 -- added to SLOWDOWN by a refusal within the declared rate; the maximum
local FASTER = 0.01 -- taken off SLOWDOWN in each interval

local function slow_of(s, rate) return max(0, s[SLOWDOWN] - (now - s[SLOWDOWN_AT]) / rate[2] * FASTER) end
-- Return the microseconds between two requests.
local function pace(s, rate)
  if s[SLOWDOWN] == 0 or rate[3] < 0 then return rate[2] / rate[1] end
  return rate[2] / rate[1] * (1 + slow_of(s, rate))
end

-- Pace a declared rate slower after a refusal: requests reach the server closer together than they were sent. Return
-- when the limit opens: a first guess is at most the pace.
local function slow_down(s, at, t, guessed)
  local rate = s[DEF][4]
  if not rate or rate[4] or s[CONSECUTIVE_REFUSALS] > 0 then return t end
  s[SLOWDOWN], s[SLOWDOWN_AT] = min(SLOW_MAX, slow_of(s, rate) + SLOWER), now
  if guessed == 1 then return min(t, at + max(PACE_TOLERANCE, pace(s, rate))) end
  return t
end
