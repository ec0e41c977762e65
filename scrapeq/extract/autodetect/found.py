"""What `auto` has found, made into a paginator. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from scrapeq.expression import as_number
from scrapeq.extract.autodetect.signals import looks_like_number, resolve_path
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
from scrapeq.protocols import Change
from scrapeq.resource.next_request import ParamPosition


def build_strategy(found: Mapping[str, Any], filters_records: bool) -> PageStrategy:
    """
    The way that was found.

    Args:
        found: As the payload keeps it.
        sifted: The selector leaves records out.
    """
    return _FlagAware(_unflagged_strategy(found, filters_records), found.get("more"), found.get("last"))


def _unflagged_strategy(found: Mapping[str, Any], filters_records: bool) -> PageStrategy:
    kind = found["type"]
    if kind == "header_link":
        return HeaderLink("next")
    if kind == "json_link":
        return JsonLink(_json_suffix_kept(_based(_reader(found), found.get("base"))), "auto")
    where = ParamPosition(found["place"][0], found["place"][1])
    if kind == "cursor":
        return Cursor(_reader(found), where, "auto")
    if kind == "page_number":
        own = _reader({"path": found["own"]}) if "own" in found else None
        pages = None
        if "pages" in found or "pages_header" in found:
            pages = _reader({"path": found.get("pages"), "header": found.get("pages_header")})
        elif "total" in found or "total_header" in found:
            pages = _pages_of(_total(found), found["size"])
        return PageNumber(where, found["base"], own, pages, None)
    known = "total" in found or "total_header" in found
    return Offset(
        where, found["base"], found.get("limit"), _total(found) if known else None, None, filters_records
    )


class _FlagAware(PageStrategy):
    """A way that ends, too, where a flag says so."""

    def __init__(
        self, strategy: PageStrategy, more: Sequence[Any] | None, last: Sequence[Any] | None
    ) -> None:
        self._strategy = strategy
        self._more = more
        self._last = last
        self.is_open_ended = strategy.is_open_ended
        self.is_unverified = strategy.is_open_ended

    def next(self, fetched: FetchedPage) -> Change | None:
        if self._more is not None and resolve_path(fetched.body, self._more) is False:
            return None
        if self._last is not None and resolve_path(fetched.body, self._last) is True:
            return None
        return self._strategy.next(fetched)

    def remaining(self, fetched: FetchedPage) -> RemainingPages | None:
        return self._strategy.remaining(fetched)


def _reader(found: Mapping[str, Any]) -> Callable[[FetchedPage], Any]:
    """What reads a place that was found: a header, or a way into the body."""
    if header := found.get("header"):
        return lambda fetched: fetched.page.header(header)
    steps = found["path"]
    return lambda fetched: resolve_path(fetched.body, steps)


def _based(read: Callable[[FetchedPage], Any], base: Sequence[Any] | None) -> Callable[[FetchedPage], Any]:
    """The link below the base that stands beside it."""
    if base is None:
        return read

    def link(fetched: FetchedPage) -> Any:
        value, below = read(fetched), resolve_path(fetched.body, base)
        both = isinstance(value, str) and isinstance(below, str) and value.startswith("/")
        return below.rstrip("/") + value if both else value

    return link


def _total(found: Mapping[str, Any]) -> Callable[[FetchedPage], Any]:
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
    """The number in a header of the answer (in `items 0-24/319` the last one); None for none."""
    value = (fetched.page.header(name) or "").rpartition("/")[2].strip()
    return int(value) if looks_like_number(value) else None


def _json_suffix_kept(read: Callable[[FetchedPage], Any]) -> Callable[[FetchedPage], Any]:
    """
    The link, with the `.json` that the request has and the link lacks (Discourse names its own pages, which are HTML).
    """

    def link(fetched: FetchedPage) -> Any:
        value = read(fetched)
        if not isinstance(value, str):
            return value
        path, mark, query = value.partition("?")
        asked = urlsplit(fetched.payload["url"]).path
        if asked.endswith(".json") and urlsplit(path).path + ".json" == asked:
            return f"{path}.json{mark}{query}"
        return value

    return link
