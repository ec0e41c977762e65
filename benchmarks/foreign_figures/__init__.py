"""The measurements of `benchmarks/foreign.py`: third-party servers, the cases, and figures from the servers' logs."""
