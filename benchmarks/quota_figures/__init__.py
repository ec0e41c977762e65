"""The measurements of `benchmarks/quota.py`: the cases, how to run one, and figures from the server's log."""
