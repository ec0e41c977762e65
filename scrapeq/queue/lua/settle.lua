-- settle: what became of leases, in one call: ack, retry, release, bury, answer, extend, visibility; with the tasks
--         that follow. Never blocked by a full queue or memory: it is what empties them.
-- KEYS    1 the queue's control key
-- ARGV    1 entries (count)   2 groups and lanes of the follow-ups (JSON)   3 header of the follow-ups
--         then per entry 4 values: '>BBddH' verb, sent (0|1), age of the answer (us), delay (us), max attempts;
--         id; token; extra (JSON or ''): {told: [[limit, remaining, reset us from the answer], ...],
--         refused: [[limit, wait us from the answer], ...], error: text}; then the payloads that follow
-- VERBS   1 ack  2 retry (charged)  3 release (uncharged)  4 bury  5 answer (the lease goes on)  6 extend  7 visibility
-- RETURNS {per entry: 1 done, 0 lease lost, 2 dead now; then per follow-up as `pushing` says}
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include finish
-- @include pushing
local ACK, RETRY, RELEASE, BURY, ANSWER, EXTEND, VISIBILITY = 1, 2, 3, 4, 5, 6, 7
local count = tonumber(ARGV[1])
local FIRST, WIDTH = 4, 4

-- Everything is read before anything is written.
local ids, entries = {}, {}
for i = 1, count do
  local at = FIRST + (i - 1) * WIDTH
  local extra = ARGV[at + 3]
  ids[i] = ARGV[at + 1]
  entries[i] = {extra = extra ~= '' and cjson.decode(extra) or {}, token = ARGV[at + 2]}
  local e = entries[i]
  e.verb, e.sent, e.age, e.delay, e.most = sunpack('>BBddH', ARGV[at])
  for _, r in ipairs(e.extra.told or {}) do r[2], r[3] = r[2] + 0, r[3] + 0 end -- numbers, or an error now
  for _, r in ipairs(e.extra.refused or {}) do r[2] = r[2] + 0 end
end
local PUSHED = FIRST + count * WIDTH
local spec = #ARGV >= PUSHED and cjson.decode(ARGV[2])
local heads = spec and read_heads(ARGV[3], #ARGV - PUSHED + 1, #spec[2]) or {}

local raws = count > 0 and call('HMGET', P .. 'meta', unpack(ids)) or {}
local recs = count > 0 and call('HMGET', P .. 'task', unpack(ids)) or {}
local metas = {}
local results, adds, unlease = {}, {}, {}
local done, doomed = {}, {}

local function names_of(list)
  if not list then return nil end
  local names = {}
  for _, r in ipairs(list) do names[r[1]] = true end
  return names
end

-- What the answer says, if there is one, and what the limits get back.
local function observe(id, m, sent, e, rec)
  local t = max(now - e.age, m[GRANTED])
  local told, refused = names_of(e.extra.told) or {}, names_of(e.extra.refused)
  if m[ANSWERED] == 0 and sent then
    -- an answer that says nothing of a told limit has cost its weight there
    local list = {unpack(lane_limits(m[LANE]))}
    if m[PRIVATE] ~= '' then list[#list + 1] = m[PRIVATE] end
    for i = 1, #list do
      if not told[list[i]] then cost(limit_of(list[i]), m[WEIGHT]) end
    end
    C[N_ANSWERED] = C[N_ANSWERED] + 1
  end
  for _, r in ipairs(e.extra.told or {}) do
    local s = limit_of(r[1])
    tell(s, r[2], t + r[3], m[GRANTED], m[WEIGHT])
    wake_waiters(s, BY_ANSWER)
  end
  for _, r in ipairs(e.extra.refused or {}) do park_limit(limit_of(r[1]), t + r[2], m[GRANTED]) end
  if refused then C[N_REFUSED] = C[N_REFUSED] + 1 end
  local _, group
  if rec then _, group = read_record(rec) end
  settle_lease(id, m, sent and 'answered' or 'unsent', t, group, refused)
end

for i = 1, count do
  local e, id = entries[i], ids[i]
  local verb, rec = e.verb, recs[i]
  local m = metas[id]
  if m == nil then
    m = raws[i] and munpack(raws[i]) or false
    metas[id] = m
  end
  if not m or m[TOKEN] == '' or m[TOKEN] ~= e.token then
    results[i] = 0
  else
    local void = m[QUIET] == VOID
    results[i] = void and 0 or 1
    if verb == EXTEND or verb == VISIBILITY then
      if not void then
        m[QUIET] = verb == VISIBILITY and 1 or 0
        call('ZADD', P .. 'leased', num(now + e.delay), id)
        call('HSET', P .. 'meta', id, mpack(m))
        note_event(now + e.delay)
      end
    elseif verb == ANSWER then
      observe(id, m, true, e, rec)
      call('HSET', P .. 'meta', id, mpack(m))
    else
      observe(id, m, e.sent == 1, e, rec)
      m[TOKEN] = ''
      unlease[#unlease + 1] = id
      if not rec then -- a grant without a task
        doomed[#doomed + 1] = id
        C[GRANTS] = C[GRANTS] - 1
      elseif verb == ACK then
        done[#done + 1] = id
        local _, _, key = read_record(rec)
        if key ~= '' then seen_mark(key, '') end
        C[N_DONE] = C[N_DONE] + 1
      elseif verb == BURY then
        to_dead(id, m, e.extra.error or '')
      else
        if e.extra.error then m[ERROR] = e.extra.error end
        if verb == RETRY then
          m[ATTEMPTS] = m[ATTEMPTS] + 1
          C[N_RETRIED] = C[N_RETRIED] + 1
        else
          m[RELEASES] = m[RELEASES] + 1
          C[N_RELEASED] = C[N_RELEASED] + 1
        end
        if verb == RETRY and m[ATTEMPTS] >= e.most then
          to_dead(id, m, m[ERROR])
          results[i] = 2
        else
          call('HSET', P .. 'meta', id, mpack(m))
          to_ready_or_delayed(id, rec, now + e.delay, adds)
        end
      end
    end
  end
end

local function each_id(list, command, key)
  if #list > 0 then call(command, P .. key, unpack(list)) end
end
each_id(unlease, 'ZREM', 'leased')
each_id(done, 'HDEL', 'task')
each_id(done, 'HDEL', 'meta')
each_id(doomed, 'HDEL', 'meta')
if C[SUSPECTS] > 0 then for i = 1, #done do drop_suspect(done[i]) end end
if #done > 0 then made_room() end
ready_add(adds)

if spec then
  local used = {}
  for i = 1, #heads do
    local owner = heads[i][OWNER]
    if owner == 0 or results[owner] ~= 0 then used[heads[i][GROUP_OF]] = true end
  end
  push(register(spec, used), heads, PUSHED, results, count)
end
flush_lanes()
save_limits()
save()
return results
