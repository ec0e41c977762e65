"""Extracts a whole page at once, for tests that look at small pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scrapeq.page import Page
from scrapeq.protocols import Extraction, Extractor


def extract(extractor: Extractor, payload: Mapping[str, Any], priority: float, page: Page) -> Extraction:
    """
    Return everything that a page gives: items, follow-ups in the order of their records, the next page last.

    The extractor must not await anything, so that no event loop is needed.
    """
    whole = Extraction()
    chunks = extractor.chunks(payload, priority, page)
    while True:
        try:
            chunks.__anext__().__await__().__next__()
        except StopIteration as done:
            chunk: Extraction = done.value
        except StopAsyncIteration:
            return whole
        else:
            raise AssertionError("the extractor has awaited something")
        whole.items += chunk.items
        whole.follow_ups += [*chunk.follow_ups, *([chunk.next_page] if chunk.next_page else [])]
        whole.skipped += chunk.skipped
        whole.starts += chunk.starts
        whole.cursor_state = chunk.cursor_state
        whole.incomplete = chunk.incomplete
        whole.events += chunk.events
