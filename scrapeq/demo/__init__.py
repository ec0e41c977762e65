"""
The sample API behind `demo://`: a code host's issues and their comments, with a rate limit, on a loopback port.

It imports nothing else of scrapeq, so the engine scrapes it as it would scrape any other server.
"""

from __future__ import annotations

from scrapeq.demo.server import DemoServer

__all__ = ["DemoServer"]
