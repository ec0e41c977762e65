-- sweep: apply the time events of a queue that nobody pops, and remove what an empty queue no longer needs.
-- KEYS    1 the queue's control key
-- ARGV    1 budget (count)   2 '1' = all workers are gone: end this many of their leases now
-- RETURNS {'1' if more is due now else '0', us to the next event (-1 none)}
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include park
-- @include finish
-- @include events
local budget, left = tonumber(ARGV[1]), false
if ARGV[2] == '1' then
  local ids = call('ZRANGEBYSCORE', P .. 'leased', '(' .. num(now), '+inf', 'LIMIT', 0, budget)
  for i = 1, #ids do call('ZADD', P .. 'leased', 'XX', num(now), ids[i]) end
  if #ids > 0 then note_event(now) end
  left = #ids == budget
end
local more = events(budget) or left
-- Nothing refers to groups and lanes of an empty queue.
if call('HLEN', P .. 'task') == 0 and call('ZCARD', P .. 'leased') == 0 then
  call('UNLINK', P .. 'g', P .. 'lane', P .. 'pa', P .. 'below')
  C[MAX_RECORD] = 0
end
save_limits()
save()
return {more and '1' or '0', C[NEXT] < NEVER and num(max(0, C[NEXT] - now)) or '-1'}
