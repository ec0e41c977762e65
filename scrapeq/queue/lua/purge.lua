-- purge: forget state other than tasks, one part in a call.
-- KEYS    1 the queue's control key
-- ARGV    1 what: seen (the digests of done tasks), limits (the state of limits; what is in flight still counts)
-- RETURNS {forgotten (count), '1' if there is more}
-- @include base
-- @include groups
-- @include limits
local PIECE = 400
local what = ARGV[1]
local forgotten, more = 0, false
if what == 'seen' then
  for _ = 1, PIECE do
    local key = P .. 'seen:' .. fmt('%.0f', C[SEEN_BUCKETS] - 1)
    forgotten = forgotten + call('HLEN', key)
    call('UNLINK', key)
    if C[SEEN_BUCKETS] == 1 then break end
    C[SEEN_BUCKETS] = C[SEEN_BUCKETS] - 1
  end
  more = call('EXISTS', P .. 'seen:0') == 1 -- the first bucket is removed last
  C[SEEN_COUNT] = more and max(0, C[SEEN_COUNT] - forgotten) or 0
else
  local scan = call('HSCAN', P .. 'l', '0', 'COUNT', PIECE)
  local found = scan[2]
  for i = 1, #found, 2 do
    local inst = found[i]
    local s = load_limit(inst, found[i + 1])
    if s[IN_FLIGHT] == 0 then forgotten = forgotten + 1 end
    forget_limit(s)
  end
  more = scan[1] ~= '0' and forgotten > 0
  recheck_parked()
end
save_limits()
save()
return {forgotten, more and '1' or '0'}
