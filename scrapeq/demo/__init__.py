"""
The sample API behind `demo://`: a code host's issues and their comments, with a rate limit, on loopback.

It stands alone: it imports nothing of scrapeq, so it is an honest stranger to the engine that scrapes it.
"""

from __future__ import annotations

from scrapeq.demo.server import DemoServer

__all__ = ["DemoServer"]
