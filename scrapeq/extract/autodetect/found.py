"""Builds the strategy of a detected paginator. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from scrapeq.expression import as_number
from scrapeq.extract.autodetect.signals import as_flag, looks_like_number, resolve_path
from scrapeq.extract.paginators import (
    Cursor,
    FetchedPage,
    HeaderLink,
    JsonLink,
    Offset,
    PageNumber,
    PageStrategy,
    RemainingPages,
)
from scrapeq.plan import KEPT_BESIDE_CURSOR
from scrapeq.protocols import Change
from scrapeq.resource.next_request import ParamPosition, PositionKind
from scrapeq.resource.payload import DetectedPaginator


def build_strategy(found: DetectedPaginator, filters_records: bool) -> PageStrategy:
    """
    Return the strategy of a detected paginator.

    Args:
        found: The detected paginator.
        filters_records: Whether the selector drops records, so that their number is not the page size.
    """
    return _FlagAware(_unflagged_strategy(found, filters_records), found.get("more"), found.get("last"))


def _unflagged_strategy(found: DetectedPaginator, filters_records: bool) -> PageStrategy:
    kind = found["type"]
    if kind == "header_link":
        return HeaderLink("next")
    if kind == "json_link":
        read = _reader(found.get("header"), found.get("path"))
        return JsonLink(
            _with_json_suffix(_with_base(read, found.get("base"))), "auto", _dotted(found.get("path"))
        )
    where = ParamPosition(cast(PositionKind, found["place"][0]), found["place"][1])
    if kind == "cursor":
        path = found.get("path")
        kept = KEPT_BESIDE_CURSOR if found.get("exclusive") else None
        reader = _reader(found.get("header"), path)
        return Cursor(reader, where, "auto", _dotted(path), kept, is_in_records=-1 in (path or ()))
    if kind == "page_number":
        own = _reader(None, found["own"]) if "own" in found else None
        pages = None
        if "pages" in found or "pages_header" in found:
            pages = _reader(found.get("pages_header"), found.get("pages"))
        elif "total" in found or "total_header" in found:
            pages = _pages_of(_total(found), found["size"])
        return PageNumber(where, found["base"], own, pages, None)
    known = "total" in found or "total_header" in found
    return Offset(
        where, found["base"], found.get("limit"), _total(found) if known else None, None, filters_records
    )


class _FlagAware(PageStrategy):
    """A strategy that also ends where a flag of the response says so."""

    def __init__(
        self, strategy: PageStrategy, more: Sequence[Any] | None, last: Sequence[Any] | None
    ) -> None:
        self._strategy = strategy
        self._more = more
        self._last = last
        self.is_open_ended = strategy.is_open_ended
        self.is_unverified = strategy.is_open_ended

    def next(self, fetched: FetchedPage) -> Change | None:
        if self._more is not None and as_flag(resolve_path(fetched.body, self._more)) is False:
            return None
        if self._last is not None and as_flag(resolve_path(fetched.body, self._last)) is True:
            return None
        return self._strategy.next(fetched)

    def maximum_reached(self, fetched: FetchedPage) -> str:
        return self._strategy.maximum_reached(fetched)

    def states_end(self, fetched: FetchedPage) -> bool:
        flags = (self._more, self._last)
        if any(flag is not None and resolve_path(fetched.body, flag) is not None for flag in flags):
            return True
        return self._strategy.states_end(fetched)

    def remaining(self, fetched: FetchedPage) -> RemainingPages | None:
        return self._strategy.remaining(fetched)


def _dotted(path: Sequence[Any] | None) -> str:
    """Return a path of names as dotted text; empty if it has other steps."""
    return ".".join(path or ()) if all(isinstance(step, str) for step in path or ()) else ""


def _reader(header: str | None, path: Sequence[Any] | None) -> Callable[[FetchedPage], Any]:
    """Return a function that reads a header, or else a path into the body."""
    if header:
        return lambda fetched: fetched.page.header(header)
    steps = path or ()
    return lambda fetched: resolve_path(fetched.body, steps)


def _with_base(
    read: Callable[[FetchedPage], Any], base: Sequence[Any] | None
) -> Callable[[FetchedPage], Any]:
    """Read a link relative to the base URL that stands beside it."""
    if base is None:
        return read

    def link(fetched: FetchedPage) -> Any:
        value, base_url = read(fetched), resolve_path(fetched.body, base)
        both = isinstance(value, str) and isinstance(base_url, str) and value.startswith("/")
        return base_url.rstrip("/") + value if both else value

    return link


def _total(found: DetectedPaginator) -> Callable[[FetchedPage], Any]:
    if header := found.get("total_header"):
        return lambda fetched: header_number(fetched, header)
    steps = found["total"]
    return lambda fetched: resolve_path(fetched.body, steps)


def _pages_of(total: Callable[[FetchedPage], Any], size: int) -> Callable[[FetchedPage], Any]:
    def pages(fetched: FetchedPage) -> int | None:
        records = as_number(total(fetched))
        return None if records is None else math.ceil(records / size)

    return pages


def header_number(fetched: FetchedPage, name: str) -> int | None:
    """Return the number in a response header (in `items 0-24/319` the last one); None if there is none."""
    value = (fetched.page.header(name) or "").rpartition("/")[2].strip()
    return int(value) if looks_like_number(value) else None


def _with_json_suffix(read: Callable[[FetchedPage], Any]) -> Callable[[FetchedPage], Any]:
    """Read a link with the `.json` that the request has and the link lacks: Discourse links to its HTML pages."""

    def link(fetched: FetchedPage) -> Any:
        value = read(fetched)
        if not isinstance(value, str):
            return value
        path, mark, query = value.partition("?")
        requested = urlsplit(fetched.payload["url"]).path
        if requested.endswith(".json") and urlsplit(path).path + ".json" == requested:
            return f"{path}.json{mark}{query}"
        return value

    return link
