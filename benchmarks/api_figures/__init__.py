"""What `benchmarks/api.py` is made of: the API that is scraped, and the ways it is scraped."""
