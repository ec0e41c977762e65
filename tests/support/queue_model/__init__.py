"""The reference model of the queue, in memory: property tests and the quota simulation compare the scripts with it."""
