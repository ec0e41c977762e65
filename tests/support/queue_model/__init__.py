"""The queue in memory: the reference that property tests and the quota simulation hold against the Lua scripts."""
