-- finish: end a lease, and move its task to where it goes next.
--   seen:<n>  hash  digest -> id of the live task, or '' once it is done ('#' and the occurrence for a recurring task);
--                   digest of a pagination -> id of the task for its current page
-- NEEDS   base, records, groups, limits
-- GIVES   settle_lease(m, how, t, rec, refused, costs), to_dead(id, m, error), to_ready_or_delayed(id, rec, due, adds)
--         forget_task(id, rec, done), drop_suspect(id), made_room()
--         seen_key(digest), seen_mark(digest, value), seen_forget(digest), seen_finish(key, id, done)
local SEEN_FILL = 40 -- average number of digests in a bucket; the fullest ones stay small enough for a listpack

-- Return to the limits what the lease was charged. how, t: as in settle() of `limits`. rec: the task's record or nil.
-- costs: name -> real cost where it differs from the charge; nil: nowhere.
local function settle_lease(m, how, t, rec, refused, costs)
  if m[ANSWERED] == 1 then return end
  m[ANSWERED] = 1
  local nonce = m[LEASE_NONCE]
  local list = lane_limits(m[LANE])
  for i = 1, #list do
    local name = list[i]
    local s, w = limit_of(name), m[WEIGHT]
    if list.of then w = w * (list.of[name] or 1) end
    local freed = settle(s, nonce, how, t, w, m[GRANTED], refused and refused[name], costs and costs[name] or w)
    wake_if_sooner(s, (freed or how == 'unsent') and BY_REFUND or BY_RESPONSE)
  end
  if m[PRIVATE] ~= '' then
    local s = limit_of(m[PRIVATE])
    local w = m[WEIGHT]
    local cost = costs and costs[m[PRIVATE]] or w
    local freed = settle(s, nonce, how, t, w, m[GRANTED], refused and refused[m[PRIVATE]], cost) or how == 'unsent'
    wake_if_sooner(s, freed and BY_REFUND or BY_RESPONSE)
    if how == 'unsent' or cost < w then
      local _, group
      if rec then _, group = read_record(rec) end
      reopen_group(group or m[GROUP])
    end
  end
end

-- `seen` is a linear hash over small hashes (16-17 bytes a digest). Return the key, the hash and the mask of a digest.
local function seen_key(digest)
  local a, b, c, d = string.byte(digest, 1, 4)
  local h = ((a * 256 + b) * 256 + c) * 256 + d
  local m = 1
  while m * 2 <= C[SEEN_BUCKETS] do m = m * 2 end
  local i = h % (m * 2)
  if i >= C[SEEN_BUCKETS] then i = h % m end
  return P .. 'seen:' .. fmt('%.0f', i), h, m
end

local function seen_mark(digest, value)
  if call('HSET', (seen_key(digest)), digest, value) == 1 then
    C[SEEN_COUNT] = C[SEEN_COUNT] + 1
    if C[SEEN_COUNT] > SEEN_FILL * C[SEEN_BUCKETS] then
      local m = 1
      while m * 2 <= C[SEEN_BUCKETS] do m = m * 2 end
      local from, to = P .. 'seen:' .. fmt('%.0f', C[SEEN_BUCKETS] - m), P .. 'seen:' .. fmt('%.0f', C[SEEN_BUCKETS])
      local all = call('HGETALL', from)
      for i = 1, #all, 2 do
        local _, h = seen_key(all[i])
        if h % (m * 2) == C[SEEN_BUCKETS] then
          call('HSET', to, all[i], all[i + 1])
          call('HDEL', from, all[i])
        end
      end
      C[SEEN_BUCKETS] = C[SEEN_BUCKETS] + 1
    end
  end
end

local function seen_forget(digest)
  if call('HDEL', (seen_key(digest)), digest) == 1 then C[SEEN_COUNT] = C[SEEN_COUNT] - 1 end
end

-- The task with this key is done or forgotten: note that under its digest, and end its pagination at this page.
local function seen_finish(key, id, done)
  local digest = sub(key, 1, DIGEST)
  if done then
    seen_mark(digest, #key > DIGEST and RECURRING_DONE .. sub(key, DIGEST + 1, OCCURRENCE_END) or '')
  else
    seen_forget(digest)
  end
  if #key > OCCURRENCE_END then
    local pagination = sub(key, OCCURRENCE_END + 1)
    if call('HGET', (seen_key(pagination)), pagination) == fmt('%.0f', tonumber(id)) then seen_forget(pagination) end
  end
end

local function drop_suspect(id)
  if C[SUSPECTS] > 0 and call('SREM', P .. 'suspects', id) == 1 then C[SUSPECTS] = C[SUSPECTS] - 1 end
end

-- Wake the pushers that wait for room.
local function made_room()
  if C[ROOM_WAITERS] == 1 then
    C[ROOM_WAITERS] = 0
    call('ZADD', P .. 'room', 0, 'm')
  end
end

-- Remove a task that is done (its digest stays for the window) or cancelled (forgotten). The caller clears the zsets.
local function forget_task(id, rec, done)
  local _, _, key = read_record(rec)
  if key ~= '' then seen_finish(key, id, done) end
  call('HDEL', P .. 'task', id)
  call('HDEL', P .. 'meta', id)
  drop_suspect(id)
  made_room()
end

local function to_dead(id, m, error)
  m[TOKEN], m[ERROR], m[QUIET] = '', error, 0
  call('HSET', P .. 'meta', id, make_meta(m))
  call('ZADD', P .. 'dead', num(now), id)
  drop_suspect(id)
  C[N_DEAD] = C[N_DEAD] + 1
  made_room()
end

-- Make a task ready at once (collected in `adds` for ready_add) or delay it until `due`.
local function to_ready_or_delayed(id, rec, due, adds)
  if due > now then
    call('ZADD', P .. 'delayed', num(due), id)
    note_event(due)
  else
    local priority, group = read_record(rec)
    local a = adds[group] or {}
    adds[group] = a
    a[#a + 1], a[#a + 2] = num(-priority), id
  end
end
