"""The ways to the next page: links, cursors, numbers, offsets, and what other packages add. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from scrapeq import plugins
from scrapeq.errors import ExtractError, ScrapeqError
from scrapeq.expression import as_number, as_text
from scrapeq.extract.known_names import PAGE_PARAMS
from scrapeq.extract.link_header import link_target
from scrapeq.extract.selector import Path, compile_path
from scrapeq.page import Page
from scrapeq.plan import PAGINATORS, Paginator
from scrapeq.protocols import Change, PageRequest, Paginate
from scrapeq.resource import Payload
from scrapeq.resource.address import get_param, resolve, set_params
from scrapeq.resource.next_request import (
    ParamPosition,
    Request,
    cursor_position,
    offset_position,
    page_position,
    request_of,
)

LINK_KEYS = ("href", "url", "link", "uri")
"""Where an object that stands for a link has its address (JSON:API, HAL, and others)."""


MAX_DIGITS = 15
"""Of a page's number in a link; a longer one is none."""


@dataclass(slots=True)
class FetchedPage:
    """
    A page that was answered.

    `count`: how many records it has; `records` are None where they are read one by one and not kept.
    """

    payload: Payload
    page: Page
    body: Any
    records: Sequence[Any] | None
    count: int
    _request: Request | None = field(default=None, repr=False)

    @property
    def number(self) -> int:
        """The page's number in its walk, from 1."""
        number: int = self.payload.get("page", 1)
        return number

    @property
    def memory(self) -> Mapping[str, Any]:
        """What the paginator asked to be remembered."""
        return (self.payload.get("walk") or {}).get("own") or {}

    @property
    def request(self) -> Request:
        """What was asked for."""
        if self._request is None:
            self._request = request_of(self.payload)
        return self._request


@dataclass(frozen=True, slots=True)
class RemainingPages:
    """All pages behind the first: how many, and what each one's request has that the first has not (from 0)."""

    count: int
    change: Callable[[int], Change]


class PageStrategy(Protocol):
    """A way to the next page."""

    is_open_ended: bool
    """Whether it goes on because nothing says the end; then an empty page ends the walk."""
    is_unverified: bool = False
    """Whether the server may not know what it is asked, whatever it tells; a page that comes twice ends the walk."""

    def next(self, at: FetchedPage) -> Change | None:
        """What leads to the next page; None at the end. Raises ExtractError for what leads nowhere."""

    def remaining(self, at: FetchedPage) -> RemainingPages | None:
        """All pages behind the first one; None when it does not know how many."""


class SinglePage(PageStrategy):
    is_open_ended = False

    def next(self, at: FetchedPage) -> Change | None:
        return None

    def remaining(self, at: FetchedPage) -> RemainingPages | None:
        return None


class JsonLink(SinglePage):
    """The body has the next page's address."""

    def __init__(self, read: Callable[[FetchedPage], Any], name: str) -> None:
        self._read = read
        self._name = name

    def next(self, at: FetchedPage) -> Change | None:
        value = self._read(at)
        if isinstance(value, Mapping):
            value = next((value[name] for name in LINK_KEYS if value.get(name)), None)
        if not value:
            return None
        if not isinstance(value, str):
            raise ExtractError(f"{self._name} gives {as_text(value)}, no link")
        return Change(url=value) if value.strip() else None


class HeaderLink(SinglePage):
    """The Link header has the next page's address (RFC 8288), or another header is that address."""

    def __init__(self, rel: str, header: str = "Link") -> None:
        self._rel = rel
        self._header = header

    def next(self, at: FetchedPage) -> Change | None:
        value = (at.page.header(self._header) or "").strip()
        if value and self._header.lower() != "link" and not value.startswith("<"):
            return Change(url=value)
        target = link_target(value, self._rel)
        return None if target is None else Change(url=target or at.page.url or at.payload["url"])

    def remaining(self, at: FetchedPage) -> RemainingPages | None:
        """Where next and last differ in nothing but the page's number."""
        links = at.page.header(self._header) or ""
        following, last = link_target(links, self._rel), link_target(links, "last")
        if not following or not last:
            return None
        base = at.page.url or at.payload["url"]
        first, end = resolve(base, following), resolve(base, last)
        for name in PAGE_PARAMS:
            begin, final = get_param(first, name), get_param(end, name)
            if not _is_number(begin) or not _is_number(final):
                continue
            assert begin is not None and final is not None
            position = ParamPosition("param", name)
            if resolve(first, _numbered(first, position, final)) != resolve(
                end, _numbered(end, position, final)
            ):
                return None
            start = int(begin)

            def change(index: int, position: ParamPosition = position, start: int = start) -> Change:
                return Change(url=_numbered(first, position, str(start + index)))

            return RemainingPages(int(final) - start + 1, change) if int(final) >= start else None
        return None


def _is_number(text: str | None) -> bool:
    return text is not None and text.isdecimal() and len(text) <= MAX_DIGITS


def _numbered(url: str, position: ParamPosition, number: str) -> str:
    return set_params(url, {position.name: number})


class Cursor(SinglePage):
    """The body, or a header, has a value that asks for what is behind it."""

    def __init__(self, read: Callable[[FetchedPage], Any], position: ParamPosition, name: str) -> None:
        self._read = read
        self._position = position
        self._name = name

    def next(self, at: FetchedPage) -> Change | None:
        value = self._read(at)
        if not value:  # null, "", 0, false, an empty map: the servers' ways to say the end
            return None
        if self._position.kind == "body":
            return self._position.change(value)
        if isinstance(value, Mapping) and self._position.kind == "param":
            # Members that the last page added and this one lacks must go: back to the first page's address.
            first = at.memory.get("first") or at.payload["url"]
            members = {name: as_text(member) for name, member in value.items()}
            return Change(url=first, params=members, remember={"first": first})
        if isinstance(value, bool | list | Mapping):
            raise ExtractError(f"{self._name} gives {as_text(value)}, no cursor")
        return self._position.change(value)


class PageNumber(PageStrategy):
    """
    The request has the page's number.

    Args:
        where: The number's place.
        base: The first page's number.
        own: Where the answer says its own number.
        pages: How many pages there are.
        largest: The largest number to ask for.
    """

    is_open_ended = True

    def __init__(
        self,
        position: ParamPosition,
        base: int,
        own: Callable[[FetchedPage], Any] | None,
        pages: Callable[[FetchedPage], Any] | None,
        maximum: int | None,
    ) -> None:
        self._position, self._base, self._own, self._pages, self._maximum = (
            position,
            base,
            own,
            pages,
            maximum,
        )

    def next(self, at: FetchedPage) -> Change | None:
        number = self._number(at) + 1
        end = self._end(at)
        return None if end is not None and number >= end else self._position.change(number)

    def remaining(self, at: FetchedPage) -> RemainingPages | None:
        if self._pages is None or as_number(self._pages(at)) is None:
            return None
        end, start = self._end(at), self._number(at) + 1
        if end is None:
            return None
        return RemainingPages(max(0, end - start), lambda index: self._position.change(start + index))

    def _number(self, at: FetchedPage) -> int:
        number = None if self._own is None else as_number(self._own(at))
        if number is None:
            number = as_number(self._position.current(at.request))
        return self._base + at.number - 1 if number is None else int(number)

    def _end(self, at: FetchedPage) -> int | None:
        """The first number that is too large."""
        pages = None if self._pages is None else as_number(self._pages(at))
        ends = [] if pages is None else [self._base + math.ceil(pages)]
        if self._maximum is not None:
            ends.append(self._maximum + 1)
        return min(ends, default=None)


class Offset(PageStrategy):
    """
    The request has the number of records to pass over.

    Args:
        where: The offset's place.
        base: The first offset.
        limit: The page's size as it is asked for; None = the server's.
        total: How many records there are.
        largest: The largest offset to ask for.
        sifted: The selector leaves records out, so that their number says nothing about the page's size.
    """

    is_open_ended = True

    def __init__(
        self,
        position: ParamPosition,
        base: int,
        limit: int | None,
        total: Callable[[FetchedPage], Any] | None,
        maximum: int | None,
        filters_records: bool = False,
    ) -> None:
        self._position, self._base, self._limit, self._total = position, base, limit, total
        self._maximum, self._filters_records = maximum, filters_records

    def next(self, at: FetchedPage) -> Change | None:
        step = self._step(at)
        offset = self._offset(at) + step
        end = self._end(at)
        if step <= 0 or (end is not None and offset >= end):
            return None
        return self._position.change(offset)

    def remaining(self, at: FetchedPage) -> RemainingPages | None:
        if self._total is None or as_number(self._total(at)) is None:
            return None
        step, end, offset = self._step(at), self._end(at), self._offset(at)
        if step <= 0 or end is None:
            return None
        count = max(0, math.ceil((end - offset) / step) - 1)
        return RemainingPages(count, lambda index: self._position.change(offset + (index + 1) * step))

    def _offset(self, at: FetchedPage) -> int:
        sent = as_number(self._position.current(at.request))
        return self._base if sent is None else int(sent)

    def _step(self, at: FetchedPage) -> int:
        limit = self._limit
        if limit is None:
            return at.count
        # A server that gives no more than 50 where 100 are asked for: a step of 100 would lose half of them.
        return at.count if 0 < at.count < limit and not self._filters_records else limit

    def _end(self, at: FetchedPage) -> int | None:
        """The first offset that is too large."""
        total = None if self._total is None else as_number(self._total(at))
        # Offsets begin at 0, or at 1 where the first one is 1.
        ends = [] if total is None else [math.ceil(total) + (1 if self._base == 1 else 0)]
        if self._maximum is not None:
            ends.append(self._maximum + 1)
        return min(ends, default=None)


class PluginPaginator(SinglePage):
    """What another package adds; whatever it raises gets its name."""

    def __init__(self, name: str, paginate: Paginate, options: Mapping[str, Any]) -> None:
        self._name, self._paginate, self._options = name, paginate, options

    def next(self, at: FetchedPage) -> Change | None:
        request = at.request
        seen = PageRequest(request.method, request.url, request.headers, request.body, at.number, at.memory)
        try:
            change = self._paginate(at.page, at.body, at.records or (), seen, self._options)
        except ScrapeqError:
            raise
        except Exception as error:
            raise ExtractError(f"the paginator {self._name}: {type(error).__name__}: {error}") from error
        if change is not None and not isinstance(change, Change):
            raise ExtractError(
                f"the paginator {self._name} gave {type(change).__name__}, no Change and no None"
            )
        return change


def page_strategy(paginator: Paginator, selector: str = "") -> PageStrategy:
    """
    The way that a paginator goes; `auto` has none before the first answer.

    Raises:
        UsageError: a path is none, or no package adds a paginator of that name.
    """
    kind = paginator.type
    if kind in ("single_page", "auto"):
        return SinglePage()
    if kind == "json_link":
        path = paginator.next_url_path or "next"
        return JsonLink(in_body(path, "next_url_path") or (lambda at: None), f"next_url_path: {path!r}")
    if kind == "header_link":
        return HeaderLink(paginator.links_next_key, paginator.link_header)
    if kind == "header_cursor":
        header = paginator.cursor_key
        return Cursor(
            lambda at: at.page.header(header), cursor_position(paginator), f"cursor_key: {header!r}"
        )
    if kind == "cursor":
        path = paginator.cursor_path
        read = in_body(path, "cursor_path")
        return Cursor(read or (lambda at: None), cursor_position(paginator), f"cursor_path: {path!r}")
    if kind == "page_number":
        return PageNumber(
            page_position(paginator),
            paginator.base_page,
            in_body(paginator.page_path, "page_path"),
            in_body(paginator.total_path, "total_path"),
            paginator.maximum_page,
        )
    if kind == "offset":
        return Offset(
            offset_position(paginator),
            paginator.offset,
            paginator.limit,
            in_body(paginator.total_path, "total_path"),
            paginator.maximum_offset,
            filters_records="[?" in selector,
        )
    assert kind not in PAGINATORS
    return PluginPaginator(kind, plugins.load(plugins.PAGINATORS, kind), paginator.options)


def in_body(path: str, field: str) -> Callable[[FetchedPage], Any] | None:
    """What reads a path of the body; None for no path."""
    if not path:
        return None
    read: Path = compile_path(path, field)
    return lambda at: read(at.body)
