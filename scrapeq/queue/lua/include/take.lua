-- take: lease what was chosen: spend its grants, write its meta, put it into the reply.
-- NEEDS   base, records, limits
-- GIVES   taken; take(id, lane, private, lane's limit states, private's state or nil/false); lease_taken(reply, until)
local PER_TASK, REPLY_HEAD = 6, 4
local TAKEN_ID, TAKEN_TOKEN, TAKEN_LANE, TAKEN_PRIVATE, TAKEN_NONCE = 1, 2, 3, 4, 5
local taken = {}
local token_clock = fmt('%d.', now)

local function take(id, lane, private, states, limit)
  local nonce = C[NONCE] + 1
  C[NONCE] = nonce
  for i = 1, #states do spend(states[i], nonce, 1) end
  if limit then spend(limit, nonce, 1) end
  taken[#taken + 1] = {id, token_clock .. fmt('%d', nonce), lane, private, nonce}
end

local function lease_taken(reply, ends)
  local ids, leases, metas = {}, {}, {PAD, NO_LISTPACK}
  local ends_text = num(ends)
  for i = 1, #taken do
    ids[i] = taken[i][TAKEN_ID]
    leases[i * 2 - 1], leases[i * 2] = ends_text, ids[i]
  end
  local recs, raws = call('HMGET', P .. 'task', unpack(ids)), call('HMGET', P .. 'meta', unpack(ids))
  for i = 1, #taken do
    local t, m = taken[i], read_meta(raws[i])
    m[TOKEN], m[GRANTED], m[LANE], m[PRIVATE] = t[TAKEN_TOKEN], now, t[TAKEN_LANE], t[TAKEN_PRIVATE]
    m[ANSWERED], m[QUIET], m[WEIGHT], m[NONCE_OF], m[KEY] = 0, 0, 1, t[TAKEN_NONCE], key_of(recs[i])
    metas[i * 2 + 1], metas[i * 2 + 2] = ids[i], make_meta(m)
    local at = REPLY_HEAD + (i - 1) * PER_TASK
    reply[at + 1], reply[at + 2], reply[at + 3] = ids[i], t[TAKEN_TOKEN], recs[i]
    reply[at + 4], reply[at + 5], reply[at + 6] = m[ATTEMPTS], m[EXPIRIES], m[RELEASES]
  end
  call('HSET', P .. 'meta', unpack(metas))
  call('ZADD', P .. 'leased', unpack(leases))
  note_event(ends, true)
  C[N_GRANTED] = C[N_GRANTED] + #taken
end
