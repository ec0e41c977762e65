-- slots: the responses in the last window of a limit's rate. A slot is freed one window after its response, whatever
--        the shape of the server's limit.
--   slots  hash  instance#rate -> '>ddd' base us, total weight, window us; then per stamp '>I3I3' ticks after the base,
--              weight in units
-- NEEDS   base, and of limits: the fields
-- GIVES   slots_of(s, i), stamp(s, i, t, w), freed_at(slots, weight) -> us, write_newest(slots)
--         rebase(slots, base, from, to)
local EXACT_SLOTS = 256 -- up to this many, each response has its own stamp; beyond, sub-windows are counted
local TICKS = 1048576 -- ticks in a window
local SLOT_HEAD, SLOT = 24, 6   -- bytes
local TICKS_FAR = 8388608 -- ticks after which the base is moved: 24 bits hold twice as many
local UNIT, UNITS_MAX = 1024, 16777215 -- weights are counted in units of 1/1024; the most in one stamp

-- Rewrite slots for another base or window: each stamp keeps its time, rounded up to the new ticks.
local function rebase(sl, base, from, to)
  local body, pos = {}, 1
  while pos < #sl.body do
    local ticks, units = sunpack('>I3I3', sl.body, pos)
    local new = math.ceil((sl.base + ticks * (from / TICKS) - base) / (to / TICKS))
    body[#body + 1] = spack('>I3I3', max(0, min(new, TICKS_FAR)), units)
    pos = pos + SLOT
  end
  sl.base, sl.body, sl.dirty = base, table.concat(body), true
end

-- Return the slots of rate i without those that left the window. The newest stamp stays apart until it is written.
local function slots_of(s, i)
  if not s[SLOTS] then s[SLOTS] = {} end
  local sl = s[SLOTS][i]
  if sl then return sl end
  local window = s[DEF][3 + i][2]
  sl = {base = now, total = 0, body = '', window = window, count = 0}
  s[SLOTS][i] = sl
  local raw = call('HGET', P .. 'slots', s[NAME] .. '#' .. i)
  if not raw then return sl end
  local old
  sl.base, sl.total, old = sunpack('>ddd', raw)
  sl.body = sub(raw, SLOT_HEAD + 1)
  if old ~= window and sl.body ~= '' then -- the rate was redefined
    rebase(sl, sl.base + sunpack('>I3', sl.body) * (old / TICKS), old, window)
  end
  local tick, pos = window / TICKS, 1
  while pos < #sl.body do
    local ticks, units = sunpack('>I3I3', sl.body, pos)
    sl.oldest = sl.base + ticks * tick + window
    if sl.oldest > now then break end
    sl.total = sl.total - units / UNIT
    pos = pos + SLOT
  end
  if pos > #sl.body then sl.total, sl.oldest = 0, nil end
  if pos > 1 then sl.dirty = true end
  -- The last stamp is the newest one.
  if pos < #sl.body then
    sl.ticks, sl.count = sunpack('>I3I3', sl.body, #sl.body - SLOT + 1)
    sl.count = sl.count / UNIT
    sl.body = sub(sl.body, pos, -SLOT - 1)
  else
    sl.body = ''
  end
  return sl
end

local function write_newest(sl)
  local units = sl.count * UNIT
  while units > 0 do
    sl.body = sl.body .. spack('>I3I3', sl.ticks, min(units, UNITS_MAX))
    units = units - UNITS_MAX
  end
  sl.count = 0
end

-- Count a response of weight w in the window from time t on.
local function stamp(s, i, t, w)
  local sl = slots_of(s, i)
  local rate = s[DEF][3 + i]
  local tick = sl.window / TICKS
  if sl.total == 0 then
    sl.base, sl.body, sl.count = min(t, now), '', 0
  elseif (t - sl.base) / tick > TICKS_FAR then
    write_newest(sl)
    rebase(sl, sl.base + sunpack('>I3', sl.body) * tick, sl.window, sl.window)
  end
  local unit = (rate[1] > EXACT_SLOTS or #sl.body >= SLOT * EXACT_SLOTS) and TICKS / EXACT_SLOTS or 1
  local ticks = max(0, math.ceil((t - sl.base) / tick / unit) * unit)
  -- It left the window already.
  if (sl.count == 0 or ticks > sl.ticks) and sl.base + ticks * tick + sl.window <= now then return end
  if sl.count > 0 and ticks > sl.ticks then write_newest(sl) end
  -- Stamps stay in order, so that the first is always the oldest.
  if sl.count == 0 then sl.ticks = ticks end
  sl.count = sl.count + w
  sl.total = sl.total + w
  sl.oldest = sl.oldest or sl.base + ticks * tick + sl.window
  sl.dirty = true
end

-- Return when this much of the weight in the slots is freed; if there is less, when all is freed.
local function freed_at(sl, weight)
  local tick, pos = sl.window / TICKS, 1
  while pos < #sl.body do
    local ticks, units = sunpack('>I3I3', sl.body, pos)
    weight = weight - units / UNIT
    if weight <= 0 then return sl.base + ticks * tick + sl.window end
    pos = pos + SLOT
  end
  return sl.base + sl.ticks * tick + sl.window
end
