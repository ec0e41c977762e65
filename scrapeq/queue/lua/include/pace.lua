-- pace: how far apart a rate's grants are, and how refusals widen that.
-- NEEDS   base, and of limits: the fields
-- GIVES   pace(s, rate) -> us, slow_down
local PACE_TOLERANCE = 20000    -- us that a paced grant may be early; else lateness is lost quota
local SLOWER, SLOW_MAX = 0.05, 3 -- what a refusal within the declared rate adds to SLOWDOWN, and the most
local FASTER = 0.01             -- ... and what a window takes off again

local function slow_of(s, rate) return max(0, s[SLOWDOWN] - (now - s[SLOWDOWN_AT]) / rate[2] * FASTER) end
-- us from one request to the next
local function pace(s, rate)
  if s[SLOWDOWN] == 0 or rate[3] < 0 then return rate[2] / rate[1] end
  return rate[2] / rate[1] * (1 + slow_of(s, rate))
end

-- Refused within its declared rate: requests come closer together at the server than they were sent. -> until when to
-- close it: a guess is no longer than the pace, at first.
local function slow_down(s, at, t, guessed)
  local rate = s[DEF][4]
  if not rate or rate[4] or s[CONSECUTIVE_REFUSALS] > 0 then return t end
  s[SLOWDOWN], s[SLOWDOWN_AT] = min(SLOW_MAX, slow_of(s, rate) + SLOWER), now
  if guessed == 1 then return min(t, at + max(PACE_TOLERANCE, pace(s, rate))) end
  return t
end
