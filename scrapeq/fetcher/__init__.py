"""The public `Fetcher`: requests within their limits, without a queue."""

from scrapeq.fetcher.fetcher import Fetcher

__all__ = ["Fetcher"]
