-- records: a task's record (immutable but for its priority) and its meta (only once popped).
-- GIVES   make_record, read_record, new_meta, read_meta
-- RECORD  byte 1 version; then '>dBB' priority, group length, key length; group; key (9-byte digest or none); payload
-- META    msgpack array, fields below; token '' = not leased; group: of a lease without a task
-- QUIET   1: its holder set when the lease ends, that is no expiry; 2: its task was cancelled, only its answer counts
local RECORD_VERSION = 1
local HEAD = 12 -- first byte after version, priority and the two lengths

local ATTEMPTS, EXPIRIES, RELEASES, TOKEN, GRANTED, LANE, PRIVATE = 1, 2, 3, 4, 5, 6, 7
local ANSWERED, GROUP, ERROR, QUIET, WEIGHT = 8, 9, 10, 11, 12
local VOID = 2

local function make_record(priority, group, key, payload)
  return spack('>BdBB', RECORD_VERSION, priority, #group, #key) .. group .. key .. payload
end

-- -> priority, group, key
local function read_record(rec)
  local priority, glen, klen = sunpack('>dBB', rec, 2)
  return priority, sub(rec, HEAD, HEAD + glen - 1), sub(rec, HEAD + glen, HEAD + glen + klen - 1)
end

local function with_priority(rec, priority)
  return sub(rec, 1, 1) .. spack('>d', priority) .. sub(rec, 10)
end

local function read_meta(raw)
  if raw then return munpack(raw) end
  return {0, 0, 0, '', 0, '', '', 0, '', '', 0, 1}
end
