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

local ids = {}
for i = 1, count do ids[i] = ARGV[FIRST + (i - 1) * WIDTH + 1] end
local raws = count > 0 and call('HMGET', P .. 'meta', unpack(ids)) or {}
local recs = count > 0 and call('HMGET', P .. 'task', unpack(ids)) or {}
local metas = {}
local results, adds, unlease = {}, {}, {}
local done, doomed = {}, {}

local function observe(id, m, verb, sent, age, extra)
  local t = now - age
  local refused
  if extra and extra.refused then
    refused = {}
    for _, r in ipairs(extra.refused) do
      refused[r[1]] = true
    end
  end
  if m[ANSWERED] == 0 then
    -- an answer that says nothing of a told limit has cost its weight there
    local told = {}
    if extra and extra.told then for _, r in ipairs(extra.told) do told[r[1]] = true end end
    if sent then
      local list = {unpack(lane_limits(m[LANE]))}
      if m[PRIVATE] ~= '' then list[#list + 1] = m[PRIVATE] end
      for i = 1, #list do
        local s = limit_of(list[i])
        if s[REM] >= 0 and not told[list[i]] then
          s[REM], s.dirty = max(0, s[REM] - m[WEIGHT]), true
        end
      end
      C[N_ANSWERED] = C[N_ANSWERED] + 1
    end
  end
  if extra then
    for _, r in ipairs(extra.told or {}) do tell(limit_of(r[1]), r[2], t + r[3], m[GRANTED]) end
    for _, r in ipairs(extra.refused or {}) do park_limit(limit_of(r[1]), t + r[2], m[GRANTED]) end
    if refused then C[N_REFUSED] = C[N_REFUSED] + 1 end
  end
  settle_lease(id, m, sent and 'answered' or 'unsent', t, refused)
end

for i = 1, count do
  local at = FIRST + (i - 1) * WIDTH
  local verb, sent, age, delay, most = sunpack('>BBddH', ARGV[at])
  local id, token = ids[i], ARGV[at + 2]
  local m = metas[id]
  if m == nil then
    m = raws[i] and munpack(raws[i]) or false
    metas[id] = m
  end
  if not m or m[TOKEN] == '' or m[TOKEN] ~= token then
    results[i] = 0
  else
    local extra = ARGV[at + 3] ~= '' and cjson.decode(ARGV[at + 3]) or nil
    results[i] = 1
    if verb == EXTEND or verb == VISIBILITY then
      m[QUIET] = verb == VISIBILITY and 1 or 0
      call('ZADD', P .. 'leased', num(now + delay), id)
      call('HSET', P .. 'meta', id, mpack(m))
      note_event(now + delay)
    elseif verb == ANSWER then
      observe(id, m, verb, true, age, extra)
      call('HSET', P .. 'meta', id, mpack(m))
    else
      observe(id, m, verb, sent == 1, age, extra)
      m[TOKEN] = ''
      unlease[#unlease + 1] = id
      local rec = recs[i]
      if not rec then -- a grant without a task
        doomed[#doomed + 1] = id
        C[GRANTS] = C[GRANTS] - 1
      elseif verb == ACK then
        done[#done + 1] = id
        local _, _, key = read_record(rec)
        if key ~= '' then seen_mark(key, '') end
        C[N_DONE] = C[N_DONE] + 1
      elseif verb == BURY then
        to_dead(id, m, extra and extra.error or '')
      else
        if extra and extra.error then m[ERROR] = extra.error end
        if verb == RETRY then
          m[ATTEMPTS] = m[ATTEMPTS] + 1
          C[N_RETRIED] = C[N_RETRIED] + 1
        else
          m[RELEASES] = m[RELEASES] + 1
          C[N_RELEASED] = C[N_RELEASED] + 1
        end
        if verb == RETRY and m[ATTEMPTS] >= most then
          to_dead(id, m, m[ERROR])
          results[i] = 2
        else
          call('HSET', P .. 'meta', id, mpack(m))
          to_ready_or_delayed(id, rec, now + delay, adds)
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

local payloads = {unpack(ARGV, FIRST + count * WIDTH)}
if #payloads > 0 then
  local names = register(cjson.decode(ARGV[2]))
  local pushed = push(names, ARGV[3], payloads, function(owner) return results[owner] ~= 0 end)
  for i = 1, #pushed do results[count + i] = pushed[i] end
end
flush_lanes()
save_limits()
save()
return results
