"""How `benchmarks/foreign.py` measures: servers that others wrote, the cases, what their logs say of a run."""
