-- records: a task's record (immutable but for its priority) and its meta (only once popped).
-- GIVES   make_record, read_record, key_of, read_meta, make_meta, first_meta
-- RECORD  byte 1 version; then '>dBB' priority, group length, key length; group; key; payload
-- KEY     none, or a 9-byte digest; behind it, of what is asked for again and again, its occurrence ('>I4') and, if it
--         is a page of a walk, the walk's digest
-- META    packed as META says, fields below; token '' = not leased; group: of a lease without a task
-- LEASE_NONCE  the token's second half, which is what limits know of a lease
-- TASKLESS  1: a grant, or its task was cancelled; GROUP is such a lease's. KEY: its task's digest, so that an ack
--           need not read the record
-- QUIET   1: its holder set when the lease ends, that is no expiry; 2: its task was cancelled, only its answer counts
local ID = 12 -- bytes of an id
local DIGEST, OCCURRENCE_END = 9, 13 -- in a key
local RECURRING_DONE = '#' -- before the occurrence in which it was done
local UNLIMITED = '\0' -- a group's place when it has no limits: no lane, no private limit
local RECORD_VERSION = 1
local HEAD = 12 -- first byte after version, priority and the two lengths

local ATTEMPTS, EXPIRIES, RELEASES, GRANTED, ANSWERED, QUIET, WEIGHT, LEASE_NONCE, TASKLESS = 1, 2, 3, 4, 5, 6, 7, 8, 9
local TOKEN, LANE, PRIVATE, GROUP, KEY, ERROR = 10, 11, 12, 13, 14, 15
local VOID = 2

local function make_record(priority, group, key, payload)
  return spack('>BdBB', RECORD_VERSION, priority, #group, #key) .. group .. key .. payload
end

-- -> its digest, or ''
local function key_of(rec)
  local glen, klen = string.byte(rec, HEAD - 2, HEAD - 1)
  return klen == 0 and '' or sub(rec, HEAD + glen, HEAD + glen + klen - 1)
end

-- -> priority, group, key
local function read_record(rec)
  local priority, glen, klen = sunpack('>dBB', rec, 2)
  return priority, sub(rec, HEAD, HEAD + glen - 1), sub(rec, HEAD + glen, HEAD + glen + klen - 1)
end

local function with_priority(rec, priority)
  return sub(rec, 1, 1) .. spack('>d', priority) .. sub(rec, 10)
end

local META = '>IIIdBBddBBc0Bc0Bc0Bc0Bc0Hc0' -- numbers first, then each text after its length
local function make_meta(m)
  return spack(META, m[ATTEMPTS], m[EXPIRIES], m[RELEASES], m[GRANTED], m[ANSWERED], m[QUIET], m[WEIGHT], m[LEASE_NONCE], m[TASKLESS],
               #m[TOKEN], m[TOKEN], #m[LANE], m[LANE], #m[PRIVATE], m[PRIVATE], #m[GROUP], m[GROUP],
               #m[KEY], m[KEY], #m[ERROR], m[ERROR])
end

-- The meta of a task that was never popped before: as make_meta would make it.
local function first_meta(token, granted, nonce, lane, private, key)
  return spack(META, 0, 0, 0, granted, 0, 0, 1, nonce, 0, #token, token, #lane, lane, #private, private, 0, '',
               #key, key, 0, '')
end

local function read_meta(raw)
  if raw then return {sunpack(META, raw)} end
  return {0, 0, 0, 0, 0, 0, 1, 0, 0, '', '', '', '', '', ''}
end
