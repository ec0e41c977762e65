-- take: lease the chosen tasks: spend their grants, write their meta, and put them into the reply.
-- NEEDS   base, records, limits
-- GIVES   taken (count)
--         take(id, lane, private, states, limit, weights, pooled, pool_weights): states: of the lane's limits;
--         limit: the private limit's state or nil/false; weights: index -> weight where it is not 1, or nil;
--         pooled, pool_weights: the same for the pool's credential, or nil
--         name_credential(name): of the task taken last; lease_taken(reply, ends)
local PER_TASK, REPLY_HEAD = 6, 4
local taken = 0
local ids, tokens, nonces, lane_names, privates = {}, {}, {}, {}, {}
local token_clock = fmt('%d.', now)

local credentials
local function name_credential(name)
  credentials = credentials or {}
  credentials[taken] = name
end

local function take(id, lane, private, states, limit, weights, pooled, pool_weights)
  local nonce = C[NONCE] + 1
  C[NONCE] = nonce
  for i = 1, #states do spend(states[i], nonce, weights and weights[i] or 1) end
  if limit then spend(limit, nonce, 1) end
  if pooled then for i = 1, #pooled do spend(pooled[i], nonce, pool_weights[i] or 1) end end
  taken = taken + 1
  ids[taken], tokens[taken], nonces[taken] = id, token_clock .. fmt('%d', nonce), nonce
  lane_names[taken], privates[taken] = lane, private
end

local function lease_taken(reply, ends)
  local leases, metas, ends_text = {}, {PAD, NO_LISTPACK}, num(ends)
  local recs, raws = call('HMGET', P .. 'task', unpack(ids)), call('HMGET', P .. 'meta', unpack(ids))
  for i = 1, taken do
    local id, rec, raw, token = ids[i], recs[i], raws[i], tokens[i]
    local attempts, expiries, releases, meta = 0, 0, 0, nil
    if raw then
      local m = read_meta(raw)
      attempts, expiries, releases = m[ATTEMPTS], m[EXPIRIES], m[RELEASES]
      m[TOKEN], m[GRANTED], m[LANE], m[PRIVATE] = token, now, lane_names[i], privates[i]
      m[ANSWERED], m[QUIET], m[WEIGHT], m[LEASE_NONCE], m[KEY] = 0, 0, 1, nonces[i], key_of(rec)
      meta = make_meta(m)
    else
      meta = first_meta(token, now, nonces[i], lane_names[i], privates[i], key_of(rec))
    end
    leases[i * 2 - 1], leases[i * 2] = ends_text, id
    metas[i * 2 + 1], metas[i * 2 + 2] = id, meta
    local at = REPLY_HEAD + (i - 1) * PER_TASK
    reply[at + 1], reply[at + 2], reply[at + 3] = id, token, rec
    reply[at + 4], reply[at + 5], reply[at + 6] = attempts, expiries, releases
  end
  if credentials then
    for i = 1, taken do credentials[i] = credentials[i] or '' end
    reply[#reply + 1] = credentials
  end
  call('HSET', P .. 'meta', unpack(metas))
  call('ZADD', P .. 'leased', unpack(leases))
  note_event(ends, true)
  C[N_GRANTED] = C[N_GRANTED] + taken
end
