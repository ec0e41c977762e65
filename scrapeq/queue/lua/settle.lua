-- settle: settle leases in one call (ack, retry, release, bury, observe, extend, visibility), and push the tasks that
--         follow. A full queue or full memory never blocks it, because it is what frees them.
-- KEYS    1 the queue's control key
-- ARGV    1 entries (count)   2 groups and lanes of the follow-ups (JSON, see `pushing`)   3 header of the follow-ups
--         then per entry 4 values:
--         '>BBddH' verb, sent (0 unsent, 1 with a response, 2 without one), age of the response (us), delay (us),
--         max attempts; id; token;
--         extra (JSON or ''): {reported: [[limit, remaining, reset us after the response], ...],
--         refused: [[limit, wait us after the response], ...], guessed: 0|1|2 (the server stated those waits, scrapeq
--         guessed, the configuration states them), rates: [[limit, requests, window us], ...], error: text,
--         costs: [[limit, real cost of the request], ...]}
--         then the payloads of the follow-ups
-- VERBS   1 ack  2 retry (charged)  3 release (uncharged)  4 bury  5 observe (the lease goes on)
--         6 extend  7 visibility
-- RETURNS {per entry: 1 done, 0 lease lost, 2 dead letter; then per follow-up as `pushing` states}
-- @include base
-- @include records
local ACK, RETRY, RELEASE, BURY, OBSERVE, EXTEND, VISIBILITY = 1, 2, 3, 4, 5, 6, 7
local count = tonumber(ARGV[1])
local FIRST, WIDTH = 4, 4
local E_VERB, E_SENT, E_AGE, E_DELAY, E_MOST, E_TOKEN, E_EXTRA = 1, 2, 3, 4, 5, 6, 7
local HOW = {[0] = 'unsent', 'answered', 'expired'} -- without a response it counts as if the lease had expired
local NOTHING = {}
local ERROR_MAX = 2000 -- bytes stored of a last error

-- @include groups
-- @include limits
-- @include finish
-- @include pushing
-- Everything is read before anything is written.
local ids, entries = {}, {}
for i = 1, count do
  local at = FIRST + (i - 1) * WIDTH
  local extra = ARGV[at + 3]
  ids[i] = ARGV[at + 1]
  local e = {sunpack('>BBddH', ARGV[at])}
  entries[i] = e
  e[E_TOKEN], e[E_EXTRA] = ARGV[at + 2], extra ~= '' and cjson.decode(extra) or NOTHING
  if extra ~= '' then
    if e[E_EXTRA].error then e[E_EXTRA].error = sub(e[E_EXTRA].error, 1, ERROR_MAX) end
    -- Raise an error now unless they are numbers.
    for _, r in ipairs(e[E_EXTRA].reported or NOTHING) do r[2], r[3] = r[2] + 0, r[3] + 0 end
    for _, r in ipairs(e[E_EXTRA].refused or NOTHING) do r[2] = r[2] + 0 end
    for _, r in ipairs(e[E_EXTRA].rates or NOTHING) do r[2], r[3] = r[2] + 0, r[3] + 0 end
    if e[E_EXTRA].costs then
      local costs = {}
      for _, r in ipairs(e[E_EXTRA].costs) do costs[r[1]] = r[2] + 0 end
      e[E_EXTRA].costs = costs
    end
  end
end
local PUSHED = FIRST + count * WIDTH
local spec, heads
if #ARGV >= PUSHED then
  spec = cjson.decode(ARGV[2])
  heads = read_heads(ARGV[3], #ARGV - PUSHED + 1, #spec[2])
end

local raws = count > 0 and call('HMGET', P .. 'meta', unpack(ids)) or {}
local metas = {}
do -- prefetch the private limits in one command
  local private, listed = {}, {}
  for i = 1, count do
    local m = metas[ids[i]]
    if m == nil then
      m = raws[i] and read_meta(raws[i]) or false
      metas[ids[i]] = m
      if m and m[PRIVATE] ~= '' and m[TOKEN] == entries[i][E_TOKEN] and not listed[m[PRIVATE]] then
        listed[m[PRIVATE]] = true
        private[#private + 1] = m[PRIVATE]
      end
    end
  end
  prefetch_limits(private)
end
local results, adds, unlease = {}, {}, {}
local done, ended = {}, {}

local function names_of(list)
  if not list then return nil end
  local names = {}
  for _, r in ipairs(list) do names[r[1]] = true end
  return names
end

-- Apply what the response reports, if there is one, and settle the charges.
local function observe(id, m, how, e, rec)
  local t = max(now - e[E_AGE], m[GRANTED])
  -- A response that reports no budget for a limit has cost its weight there.
  local extra = e[E_EXTRA]
  local reported, refused, costs = names_of(extra.reported) or NOTHING, names_of(extra.refused), extra.costs
  local list = lane_limits(m[LANE])
  local function charged(name) return m[WEIGHT] * (list.of and list.of[name] or 1) end
  local function cost(name) return costs and costs[name] or charged(name) end
  if m[ANSWERED] == 0 and how == 'answered' then
    for i = 1, #list do
      if not reported[list[i]] then charge_budget(limit_of(list[i]), cost(list[i])) end
    end
    if m[PRIVATE] ~= '' and not reported[m[PRIVATE]] then charge_budget(limit_of(m[PRIVATE]), cost(m[PRIVATE])) end
    C[N_ANSWERED] = C[N_ANSWERED] + 1
  end
  if extra ~= NOTHING then
    for _, r in ipairs(extra.reported or NOTHING) do
      local s = limit_of(r[1])
      report_budget(s, r[2], t + r[3], m[GRANTED], cost(r[1]))
      wake_if_sooner(s, BY_RESPONSE)
    end
    for _, r in ipairs(extra.refused or NOTHING) do
      report_refusal(limit_of(r[1]), t, t + r[2], m[GRANTED], charged(r[1]), extra.guessed)
    end
    for _, r in ipairs(extra.rates or NOTHING) do
      local s = limit_of(r[1])
      if s.learns then
        learn_stated_rate(s, r[2], r[3])
        s[DIRTY] = true
      end
    end
    if refused then C[N_REFUSED] = C[N_REFUSED] + 1 end
  end
  if costs and not rec and m[TASKLESS] == 0 and m[PRIVATE] ~= '' then rec = call('HGET', P .. 'task', id) end
  settle_lease(m, how, t, rec, refused, costs)
end

for i = 1, count do
  local e, id = entries[i], ids[i]
  local verb, m = e[E_VERB], metas[id]
  if not m or m[TOKEN] == '' or m[TOKEN] ~= e[E_TOKEN] then
    results[i] = 0
  else
    local void = m[QUIET] == VOID
    results[i] = void and 0 or 1
    if verb == EXTEND or verb == VISIBILITY then
      if not void then
        m[QUIET] = verb == VISIBILITY and 1 or 0
        call('ZADD', P .. 'leased', num(now + e[E_DELAY]), id)
        call('HSET', P .. 'meta', id, make_meta(m))
        note_event(now + e[E_DELAY])
      end
    elseif verb == OBSERVE then
      observe(id, m, 'answered', e)
      call('HSET', P .. 'meta', id, make_meta(m))
    else
      local taskless = m[TASKLESS] == 1
      local rec -- read only if needed: the most common verb, ack, does not need it
      if not taskless and (verb ~= ACK or e[E_SENT] == 0) then rec = call('HGET', P .. 'task', id) end
      observe(id, m, HOW[e[E_SENT]], e, rec)
      m[TOKEN] = ''
      unlease[#unlease + 1] = id
      if taskless then
        ended[#ended + 1] = id
        C[TASKLESS_LEASES] = C[TASKLESS_LEASES] - 1
      elseif verb == ACK then
        done[#done + 1] = id
        if m[KEY] ~= '' then seen_finish(m[KEY], id, true) end
        C[N_DONE] = C[N_DONE] + 1
      elseif verb == BURY then
        to_dead(id, m, e[E_EXTRA].error or '')
      else
        if e[E_EXTRA].error then m[ERROR] = e[E_EXTRA].error end
        if verb == RETRY then
          m[ATTEMPTS] = m[ATTEMPTS] + 1
          C[N_RETRIED] = C[N_RETRIED] + 1
        else
          m[RELEASES] = m[RELEASES] + 1
          C[N_RELEASED] = C[N_RELEASED] + 1
        end
        if verb == RETRY and m[ATTEMPTS] >= e[E_MOST] then
          to_dead(id, m, m[ERROR])
          results[i] = 2
        else
          call('HSET', P .. 'meta', id, make_meta(m))
          to_ready_or_delayed(id, rec, now + e[E_DELAY], adds)
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
each_id(ended, 'HDEL', 'meta')
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
