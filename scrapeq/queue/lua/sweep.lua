-- sweep: what time brings to a queue that nobody pops, and what is no longer needed.
-- KEYS    1 the queue's control key
-- ARGV    1 budget (count)
-- RETURNS {'1' if more is due now else '0', us to the next event (-1 none)}
-- @include base
-- @include records
-- @include groups
-- @include limits
-- @include park
-- @include finish
-- @include events
local more = events(tonumber(ARGV[1]))
if call('HLEN', P .. 'task') == 0 and call('ZCARD', P .. 'leased') == 0 then -- nothing refers to groups and lanes any more
  call('UNLINK', P .. 'g', P .. 'lane', P .. 'pa', P .. 'below')
  C[MAXREC] = 0
end
save_limits()
save()
return {more and '1' or '0', C[NEXT] < NEVER and num(max(0, C[NEXT] - now)) or '-1'}
