-- records: a task's record (only its priority ever changes) and its meta (written when it is first popped).
-- NEEDS   base
-- GIVES   make_record(priority, group, key, payload), read_record(rec) -> priority, group, key
--         key_of(rec), with_priority(rec, priority), make_meta(m), read_meta(raw) -> m
--         first_meta(token, granted, nonce, lane, private, key)
-- RECORD  byte 1 version; then '>dBB' priority, group length, key length; group; key; payload
-- KEY     empty, or a 9-byte digest; a recurring task adds its occurrence ('>I4') and, for a page of a pagination, the
--         digest of the pagination
-- META    packed as META states, fields below; token '' = not leased
-- LEASE_NONCE  the second half of the token, by which limits identify the lease
-- TASKLESS  1: a grant without a task, or its task was cancelled; then GROUP is its group
-- KEY     in the meta: the digest of the task, so that an ack need not read the record
-- QUIET   1: its worker set when the lease ends, so that is not an expiry; 2: its task was cancelled, and only the
--         response still counts
local ID = 12 -- length of an id
local DIGEST, OCCURRENCE_END = 9, 13 -- in a key: length of the digest, end of the occurrence
local RECURRING_DONE = '#' -- precedes the occurrence in which a task was done
local UNLIMITED = '\0' -- spec of a group without limits: no lane, no private limit
local RECORD_VERSION = 1
local HEAD = 12 -- index of the first byte after version, priority and the two lengths

local ATTEMPTS, EXPIRIES, RELEASES, GRANTED, ANSWERED, QUIET, WEIGHT, LEASE_NONCE, TASKLESS = 1, 2, 3, 4, 5, 6, 7, 8, 9
local TOKEN, LANE, PRIVATE, GROUP, KEY, ERROR = 10, 11, 12, 13, 14, 15
local VOID = 2

local function make_record(priority, group, key, payload)
  return spack('>BdBB', RECORD_VERSION, priority, #group, #key) .. group .. key .. payload
end

-- Return the digest of a record, or ''.
local function key_of(rec)
  local glen, klen = string.byte(rec, HEAD - 2, HEAD - 1)
  return klen == 0 and '' or sub(rec, HEAD + glen, HEAD + glen + klen - 1)
end

-- Return priority, group and key.
local function read_record(rec)
  local priority, glen, klen = sunpack('>dBB', rec, 2)
  return priority, sub(rec, HEAD, HEAD + glen - 1), sub(rec, HEAD + glen, HEAD + glen + klen - 1)
end

local function with_priority(rec, priority)
  return sub(rec, 1, 1) .. spack('>d', priority) .. sub(rec, 10)
end

local META = '>IIIdBBddBBc0Bc0Bc0Bc0Bc0Hc0' -- numbers first, then each text after its length
local function make_meta(m)
  return spack(META, m[ATTEMPTS], m[EXPIRIES], m[RELEASES], m[GRANTED], m[ANSWERED], m[QUIET],
               m[WEIGHT], m[LEASE_NONCE], m[TASKLESS],
               #m[TOKEN], m[TOKEN], #m[LANE], m[LANE], #m[PRIVATE], m[PRIVATE], #m[GROUP], m[GROUP],
               #m[KEY], m[KEY], #m[ERROR], m[ERROR])
end

-- Return the meta of a task that is popped for the first time, as make_meta would return it.
local function first_meta(token, granted, nonce, lane, private, key)
  return spack(META, 0, 0, 0, granted, 0, 0, 1, nonce, 0, #token, token, #lane, lane, #private, private, 0, '',
               #key, key, 0, '')
end

local function read_meta(raw)
  if raw then return {sunpack(META, raw)} end
  return {0, 0, 0, 0, 0, 0, 1, 0, 0, '', '', '', '', '', ''}
end
