"""Parts of `benchmarks/api.py`: the API server, and the scrape with dlt."""
