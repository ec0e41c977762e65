-- base: names, the clock, the control string and its saving; every script begins with it.
-- KEYS    1 the queue's control key, "scrapeq:{queue}:c"; all others derive from it within the same slot
-- GIVES   P (prefix), now (queue clock, us), C (control fields), arm(), note_event(t), save()
-- NOTE    numbers are written as strings by num()/uid() only: Lua's own tostring loses digits
local P = string.sub(KEYS[1], 1, -2)
local call, fmt, sub = redis.call, string.format, string.sub
local spack, sunpack = struct.pack, struct.unpack
local mpack, munpack = cmsgpack.pack, cmsgpack.unpack
local floor, min, max = math.floor, math.min, math.max

local NEVER = 9e15        -- us; later than any time, still exact in a double
local MAX_UNPACK = 4000   -- values handed to one variadic command

local EXACT = 9007199254740992 -- 2^53; whole numbers below it are written as such, which is faster
local function num(x)
  if x % 1 == 0 and x < EXACT and x > -EXACT then return fmt('%d', x) end
  return fmt('%.17g', x)
end
local function uid(n) return fmt('%012d', n) end

-- A small hash is a listpack, which is searched from its front: 100 look-ups among 500 fields cost 4 us each. A field
-- that is no name of ours, with a value too long for a listpack, makes a hash table of it at once.
local PAD = '\0'
local NO_LISTPACK = '-----------------------------------------------------------------'

-- control fields; all doubles, so that one struct format reads them
local NEXT, OFFSET, LAST, SEQ, NONCE, PAUSED, ROOM_WAITERS, AGAIN = 1, 2, 3, 4, 5, 6, 7, 8
local SEEN_COUNT, SEEN_BUCKETS, SUSPECTS, MAX_RECORD = 9, 10, 11, 12
local N_PUSHED, N_DONE, N_GRANTED, N_REFUSED, N_EXPIRED, N_DEAD = 13, 14, 15, 16, 17, 18
local N_RETRIED, N_RELEASED, N_DUPLICATE, N_INEXACT, N_CANCELLED, N_ANSWERED = 19, 20, 21, 22, 23, 24
local TASKLESS_LEASES = 25 -- leases without a task
local FAIR, TURN = 26, 27 -- 1: order `fair`; tasks given out in it: a group's turn is what this was when it was served
local WATCH_UNTIL = 28 -- until then somebody waits who will look at the next event when it comes
local FIELDS = 28
local CONTROL = '>dddddddddddddddddddddddddddd'

local C
do
  local raw = call('GET', KEYS[1])
  if raw then
    if #raw < FIELDS * 8 then raw = raw .. string.rep('\0', FIELDS * 8 - #raw) end -- of an earlier version
    C = {sunpack(CONTROL, raw)}
  else
    C = {}
    for i = 1, FIELDS do C[i] = 0 end
    C[NEXT] = NEVER
    C[SEEN_BUCKETS] = 1
  end
end

-- @include clock

-- The queue clock never steps back: it is TIME plus an offset that grows whenever TIME went back.
local now = server_us() + C[OFFSET]
if now < C[LAST] then
  C[OFFSET] = C[OFFSET] + (C[LAST] - now)
  now = C[LAST]
end
C[LAST] = now

local armed = false
local function arm() armed = true end

-- An event at time t is to come: the earliest one is kept, and an earlier one wakes who waits for a later one.
local function note_event(t, quietly)
  if t < C[NEXT] then
    C[NEXT] = t
    if not quietly then armed = true end
  end
end

local function save()
  if armed and C[PAUSED] == 0 then call('ZADD', P .. 'wake', 0, 'm') end
  call('SET', KEYS[1], spack(CONTROL, unpack(C)))
end

-- A variadic command in pieces that Lua's stack can hold; `width` values belong together.
local function in_pieces(command, key, args, width)
  local step = MAX_UNPACK - MAX_UNPACK % width
  for i = 1, #args, step do call(command, key, unpack(args, i, min(i + step - 1, #args))) end
end
