-- look: read the state of the queue without changing it.
-- KEYS    1 the queue's control key
-- ARGV    1 verb   then by verb:
--         get     2... ids
--         counts
--         limits  2... instances
--         history 2 instance
--         defined
-- RETURNS get:    per id 8 values: record or '', state, attempts, expiries, releases, last error, token, us until due
--         counts: now, ready, delayed, leased, dead, paused, next event (us from now; -1 none), then the counters,
--                 when the queue was created (us; 0 not yet), 1 if tasks are missing that other keys name (0|1)
--         limits: per instance 15 values: parked for (us; 0), paused, in flight, probing (0|1), reported remaining
--                 (-1 none), reported reset in (us), cap, consecutive refusals, heaviest weight above the whole
--                 limit (0 none), learned limit (0 none), its window (us), in trial (0|1), source (1 learned,
--                 2 named), opens in (us; 0 open, -1 by an event), weight of the responses in the window
--         history: the changes of a learned limit, newest first, as `learn` writes them
--         defined: the definitions by limit name, JSON as `steer` reads it
-- @include base
-- @include records
-- @include groups
-- @include limits
local verb = ARGV[1]
local out = {}
if verb == 'get' then
  for i = 2, #ARGV do
    local id = ARGV[i]
    local rec = call('HGET', P .. 'task', id)
    local m = read_meta(call('HGET', P .. 'meta', id))
    local state, due = '', 0
    if rec then
      state = 'ready'
      for _, zset in ipairs({'delayed', 'leased', 'dead'}) do
        local score = call('ZSCORE', P .. zset, id)
        if score then state, due = zset, tonumber(score) - now end
      end
    end
    for _, v in ipairs({rec or '', state, m[ATTEMPTS], m[EXPIRIES], m[RELEASES], m[ERROR], m[TOKEN], num(due)}) do
      out[#out + 1] = v
    end
  end
elseif verb == 'counts' then
  local all = call('HLEN', P .. 'task')
  local delayed, leased, dead = call('ZCARD', P .. 'delayed'), call('ZCARD', P .. 'leased'), call('ZCARD', P .. 'dead')
  leased = leased - C[TASKLESS_LEASES]
  out = {num(now), num(all - delayed - leased - dead), num(delayed), num(leased), num(dead),
         num(C[PAUSED]), C[NEXT] < NEVER and num(max(0, C[NEXT] - now)) or '-1'}
  for i = N_PUSHED, N_ANSWERED do out[#out + 1] = num(C[i]) end
  out[#out + 1] = num(C[CREATED])
  local empty = all <= dead and call('EXISTS', P .. 'lanes', P .. 'lp', P .. 'gp', P .. 'delayed') > 0
  out[#out + 1] = (empty or all < delayed + leased + dead) and '1' or '0'
elseif verb == 'defined' then
  local found, all = call('HGETALL', P .. 'ld'), {}
  for i = 1, #found, 2 do all[found[i]] = munpack(found[i + 1]) end
  return cjson.encode(all)
elseif verb == 'history' then
  out = call('LRANGE', P .. 'lh:' .. ARGV[2], 0, -1)
else
  for i = 2, #ARGV do
    local s = limit_of(ARGV[i])
    local t = check(s, 1, ANY)
    local used = 0
    for r = 1, #s[DEF] - 3 do
      local rate = s[DEF][3 + r]
      if rate[3] <= 0 and not rate[4] then used = max(used, slots_of(s, r).total) end
    end
    for _, v in ipairs({max(0, s[PARKED_UNTIL] - now), s[LIMIT_PAUSED], s[IN_FLIGHT], s[PROBATION], s[REMAINING],
                        s[REMAINING] >= 0 and s[RESET_AT] - now or 0, cap_of(s), s[CONSECUTIVE_REFUSALS],
                        s[HEAVIEST], s.learns and s[L_LIMIT] > 0 and s[DEF][4][1] or 0,
                        s.learns and s[L_WINDOW] or 0, s.learns and s[L_TRIAL] > 0 and 1 or 0,
                        s.learns and s[L_SOURCE] or 0, t and (t < NEVER and t - now or -1) or 0, used}) do
      out[#out + 1] = num(v)
    end
  end
end
return out
