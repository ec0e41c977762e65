"""How `benchmarks/quota.py` measures: the cases, one run of each, what the server's log says of it."""
