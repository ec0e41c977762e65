-- base: the basis of every script: key names, the queue's clock, the control fields and how to save them.
-- KEYS    1 the queue's control key, "scrapeq:{queue}:c"; all other keys derive from it within the same slot
-- GIVES   P (key prefix), now (queue clock, us), C (control fields), num(x), uid(n), arm(), note_event(t, quietly)
--         save(), in_pieces(command, key, args, width); short names of the libraries' functions
-- NOTE    write numbers as strings with num() and uid() only: Lua's tostring loses digits
local P = string.sub(KEYS[1], 1, -2)
local call, fmt, sub = redis.call, string.format, string.sub
local spack, sunpack = struct.pack, struct.unpack
local mpack, munpack = cmsgpack.pack, cmsgpack.unpack
local floor, min, max = math.floor, math.min, math.max

local NEVER = 9e15 -- us; later than any time, still exact in a double
local MAX_UNPACK = 4000 -- values passed to one variadic command

local EXACT = 9007199254740992 -- 2^53; smaller whole numbers take the faster format
local function num(x)
  if x % 1 == 0 and x < EXACT and x > -EXACT then return fmt('%d', x) end
  return fmt('%.17g', x)
end
local function uid(n) return fmt('%012d', n) end

-- Redis stores a small hash as a listpack and searches it from the front: 100 look-ups among 500 fields cost 4 us each.
-- A padding field with a value too long for a listpack turns it into a hash table at once.
local PAD = '\0'
local NO_LISTPACK = '-----------------------------------------------------------------'

-- Control fields; all are doubles, so that one struct format reads them. NEXT: time of the next event; OFFSET, LAST:
-- the clock's offset and last reading; SEQ, NONCE: last id and last lease; ROOM_WAITERS: 1 = pushers wait for room;
-- AGAIN: consecutive pops with too many time events; SEEN_COUNT, SEEN_BUCKETS: size of `seen`; SUSPECTS: their number;
-- MAX_RECORD: bytes of the largest record; N_...: counters.
local NEXT, OFFSET, LAST, SEQ, NONCE, PAUSED, ROOM_WAITERS, AGAIN = 1, 2, 3, 4, 5, 6, 7, 8
local SEEN_COUNT, SEEN_BUCKETS, SUSPECTS, MAX_RECORD = 9, 10, 11, 12
local N_PUSHED, N_DONE, N_GRANTED, N_REFUSED, N_EXPIRED, N_DEAD = 13, 14, 15, 16, 17, 18
local N_RETRIED, N_RELEASED, N_DUPLICATE, N_INEXACT, N_CANCELLED, N_ANSWERED = 19, 20, 21, 22, 23, 24
local TASKLESS_LEASES = 25 -- leases without a task
-- FAIR: 1 = order `fair`; TURN: tasks leased in it, a group's turn is its value when it was last served.
local FAIR, TURN = 26, 27
local WATCH_UNTIL = 28 -- until then, a designated waiter will look at the next event
local CREATED = 29 -- when this key was first saved (us); it changes only if the store has forgotten the queue
local FIELDS = 29
local CONTROL = '>ddddddddddddddddddddddddddddd'

local C
do
  local raw = call('GET', KEYS[1])
  if raw then
    if #raw < FIELDS * 8 then raw = raw .. string.rep('\0', FIELDS * 8 - #raw) end -- written by an earlier version
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

-- An event will happen at time t. The earliest one is stored; an earlier one than before wakes a waiter.
local function note_event(t, quietly)
  if t < C[NEXT] then
    C[NEXT] = t
    if not quietly then armed = true end
  end
end

local function save()
  if armed and C[PAUSED] == 0 then call('ZADD', P .. 'wake', 0, 'm') end
  if C[CREATED] == 0 then C[CREATED] = now end
  call('SET', KEYS[1], spack(CONTROL, unpack(C)))
end

-- Run a variadic command in pieces that Lua's stack can hold; groups of `width` values stay together.
local function in_pieces(command, key, args, width)
  local step = MAX_UNPACK - MAX_UNPACK % width
  for i = 1, #args, step do call(command, key, unpack(args, i, min(i + step - 1, #args))) end
end
