"""
The first design of this queue, rebuilt in a few lines from its description.

It has one sorted set of payloads by priority, another of delayed and leased ones, and hashes for attempts and retries;
no batches and no limits. If a group is delayed, each pop finds that out task by task.
"""

from __future__ import annotations

import json
import random

from harness import Sizes, Stopwatch, main, payload
from redis import Redis

PUSH = """
local member = cmsgpack.pack({ARGV[2], ARGV[3]})
redis.call('HSET', ARGV[1] .. '::retries', ARGV[2], 5)
return redis.call('ZADD', ARGV[1], ARGV[4], member)
"""
POP = """
local q, now = ARGV[1], tonumber(ARGV[2])
while true do
  local top = redis.call('ZPOPMAX', q)
  if #top == 0 then return false end
  local payload, group = unpack(cmsgpack.unpack(top[1]))
  local wait = redis.call('TTL', q .. '::delay::' .. group)
  if wait > 0 then
    redis.call('ZADD', q .. '::delayed', now + wait, cmsgpack.pack({top[2], top[1]}))
  else
    local attempt = redis.call('HINCRBY', q .. '::attempts', payload, 1)
    if attempt <= tonumber(redis.call('HGET', q .. '::retries', payload) or 5) then
      local lease = cmsgpack.pack({top[2], top[1]})
      redis.call('ZADD', q .. '::delayed', 'NX', now + ARGV[3], lease)
      return {payload, lease, attempt}
    end
  end
end
"""
REMOVE = """
redis.call('HDEL', ARGV[1] .. '::retries', ARGV[3])
redis.call('HDEL', ARGV[1] .. '::attempts', ARGV[3])
return redis.call('ZREM', ARGV[1] .. '::delayed', ARGV[2])
"""
NAME, LEASE_S, CLOSED_S = "seed", 60, 600


def measure(sizes: Sizes) -> dict[str, float]:
    """Push and pop one task at a time, which is all it can do; then pop with one large group closed."""
    store = Redis(unix_socket_path=sizes.socket)
    push, pop, remove = (store.register_script(text) for text in (PUSH, POP, REMOVE))
    push(args=[NAME, "warm", "", 0])
    remove(args=[NAME, pop(args=[NAME, 0, LEASE_S])[1], "warm"])
    before = store.info("memory")["used_memory"]
    with Stopwatch() as pushing:
        for i in range(sizes.tasks):
            push(args=[NAME, json.dumps(payload(i)), f"h{i % 1000}", random.random()])
    memory = store.info("memory")["used_memory"] - before
    with Stopwatch() as popping:
        for _ in range(sizes.tasks):
            data, lease, _ = pop(args=[NAME, 0, LEASE_S])
            remove(args=[NAME, lease, data])
    for i in range(sizes.parked):
        push(args=[NAME, json.dumps(payload(i)), "closed", random.random()])
    store.set(f"{NAME}::delay::closed", 1, ex=CLOSED_S)
    store.config_resetstat()
    pop(args=[NAME, 0, LEASE_S])
    park_us = store.info("commandstats")["cmdstat_evalsha"]["usec"]
    return {
        "push": pushing.rate(sizes.tasks),
        "single": popping.rate(sizes.tasks),
        "bytes": memory / sizes.tasks,
        "park": park_us,
    }


if __name__ == "__main__":
    main(measure)
