"""scrapeq: a scraping toolkit whose queue knows the rate limits."""

__version__ = "0.1.0"
