"""Helpers for tests: run a page through a configuration and its hooks (`page_of`, `scrape_page`), and a fake clock."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapeq.testing.clock import FakeClock
    from scrapeq.testing.pages import Scraped, TaskRequest, page_of, scrape_page

__all__ = ["FakeClock", "Scraped", "TaskRequest", "page_of", "scrape_page"]

_PAGES = "scrapeq.testing.pages"
_MODULES = {"FakeClock": "scrapeq.testing.clock", "TaskRequest": _PAGES, "Scraped": _PAGES}
_MODULES |= {"page_of": _PAGES, "scrape_page": _PAGES}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'scrapeq.testing' has no attribute {name!r}")
    return getattr(import_module(module), name)
