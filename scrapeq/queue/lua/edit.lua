-- edit: change tasks by id, in any state.
-- KEYS    1 the queue's control key
-- ARGV    1 verb   2 value   3... ids (at most 1000)
--         cancel               remove from the queue and forget its digest; its worker loses the lease, but limits
--                              count it until its response or its end, because the request may have been sent
--         prioritize  2 number the new priority (of a leased task: when it returns)
--         redrive              dead -> ready, with 0 attempts and expiries
--         drop                 dead -> removed
-- RETURNS {per id: 1 changed, 0 not found (or not dead)}
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include finish
local verb, value = ARGV[1], ARGV[2]
local results, adds = {}, {}

local function take_out(id, rec)
  local _, group = read_record(rec)
  if call('ZREM', P .. 'delayed', id) == 1 or call('ZREM', P .. 'dead', id) == 1 then return end
  if call('ZSCORE', P .. 'leased', id) then
    local m = read_meta(call('HGET', P .. 'meta', id))
    m[QUIET], m[TASKLESS], m[GROUP] = VOID, 1, group
    C[TASKLESS_LEASES] = C[TASKLESS_LEASES] + 1
    return m
  end
  ready_remove(group, {id})
end

for i = 3, #ARGV do
  local id = ARGV[i]
  local rec = call('HGET', P .. 'task', id)
  results[i - 2] = 0
  if rec then
    local priority, group = read_record(rec)
    if verb == 'cancel' then
      local void = take_out(id, rec)
      forget_task(id, rec, false)
      if void then call('HSET', P .. 'meta', id, make_meta(void)) end
      C[N_CANCELLED] = C[N_CANCELLED] + 1
      results[i - 2] = 1
    elseif verb == 'prioritize' then
      call('HSET', P .. 'task', id, with_priority(rec, tonumber(value)))
      if call('ZSCORE', P .. 'r:' .. group, id) then
        ready_move(group, id, num(-tonumber(value)))
      end
      results[i - 2] = 1
    elseif call('ZREM', P .. 'dead', id) == 1 then
      if verb == 'redrive' then
        local m = read_meta(call('HGET', P .. 'meta', id))
        m[ATTEMPTS], m[EXPIRIES], m[TOKEN] = 0, 0, ''
        call('HSET', P .. 'meta', id, make_meta(m))
        to_ready_or_delayed(id, rec, now, adds)
      else
        forget_task(id, rec, false)
      end
      results[i - 2] = 1
    end
  end
end
ready_add(adds)
flush_lanes()
save_limits()
save()
return results
