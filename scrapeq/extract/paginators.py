"""Strategies to find the next page: links, cursors, page numbers and offsets. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from scrapeq.errors import ExtractError, UsageError
from scrapeq.expression import as_number, as_text
from scrapeq.extract.known_names import PAGE_PARAMS
from scrapeq.extract.link_header import link_target, mentions
from scrapeq.extract.page_end import is_end_mark, leads_nowhere
from scrapeq.extract.seen_records import SeenRecords
from scrapeq.page import Page
from scrapeq.protocols import Change
from scrapeq.resource import Payload
from scrapeq.resource.address import get_param, param_names, resolve, set_params
from scrapeq.resource.next_request import (
    ParamPosition,
    Request,
    member_names,
    request_of,
)
from scrapeq.resource.payload import PagesAhead

LINK_KEYS = ("href", "url", "link", "uri", "@href", "#text", "path")
"""The members of a link object that may hold its URL (JSON:API, HAL, Atom in XML, and others)."""

MAX_DIGITS = 15
"""The most digits of a page number in a link; Python refuses to parse very long ones."""


@dataclass(slots=True)
class FetchedPage:
    """
    A page with its response.

    `count` is the number of its records; `records` is None if they are read one by one. `is_matched`: the place of the
    records is known and exists in the body, even if it holds an empty list. `seen`: its records and those before them.
    """

    payload: Payload
    page: Page
    body: Any
    records: Sequence[Any] | None
    count: int
    is_matched: bool = False
    seen: SeenRecords | None = None
    _request: Request | None = field(default=None, repr=False)

    @property
    def number(self) -> int:
        """The number of the page, from 1."""
        number: int = self.payload.get("page", 1)
        return number

    @property
    def memory(self) -> Mapping[str, Any]:
        """What the paginator wanted to remember (`Change.remember`)."""
        return (self.payload.get("walk") or {}).get("own") or {}

    @property
    def request(self) -> Request:
        """The request of the page."""
        if self._request is None:
            self._request = request_of(self.payload)
        return self._request


@dataclass(frozen=True, slots=True)
class RemainingPages:
    """
    The pages after one, if they are numbered and their number is known.

    Args:
        count: How many there are.
        position: Where the request takes the number.
        start: The number of the first of them.
        step: How far two of them are apart.
        url: The URL that takes the number; empty = that of the page.
    """

    count: int
    position: ParamPosition
    start: int
    step: int = 1
    url: str = ""

    def change(self, index: int) -> Change:
        """Return the change that turns the request of the page into one of these pages (from 0)."""
        number = self.start + index * self.step
        return (
            Change(url=_numbered(self.url, self.position, str(number)))
            if self.url
            else self.position.change(number)
        )

    @property
    def ahead(self) -> PagesAhead | None:
        """All but the first of them, for the payload of the first one; None if there are none."""
        if self.count <= 1:
            return None
        ahead: PagesAhead = {
            "place": [self.position.kind, self.position.name],
            "at": self.start + self.step,
            "step": self.step,
            "left": self.count - 1,
        }
        return {**ahead, "url": self.url} if self.url else ahead


class PageStrategy(Protocol):
    """Finds the next page."""

    is_open_ended: bool
    """Whether the response does not mark the last page, so that an empty page ends the pagination."""
    is_unverified: bool = False
    """Whether the server may ignore the parameter, so that a repeated page ends the pagination."""

    def next(self, fetched: FetchedPage) -> Change | None:
        """Return the change that leads to the next page; None at the end. Raises ExtractError for invalid links."""

    def remaining(self, fetched: FetchedPage) -> RemainingPages | None:
        """Return all pages after the first one; None if their number is unknown."""

    def states_end(self, fetched: FetchedPage) -> bool:
        """Return whether the response itself states that nothing follows, as with `next: null`."""
        return False

    def maximum_reached(self, fetched: FetchedPage) -> str:
        """Return the key whose bound alone ends the pagination at this page; empty if it ends by itself."""
        return ""


class SinglePage(PageStrategy):
    """One page without a next one; also the defaults of the other strategies."""

    is_open_ended = False

    def next(self, fetched: FetchedPage) -> Change | None:
        return None

    def remaining(self, fetched: FetchedPage) -> RemainingPages | None:
        return None


class JsonLink(SinglePage):
    """The body has the URL of the next page."""

    def __init__(self, read: Callable[[FetchedPage], Any], name: str, path: str = "") -> None:
        self._read = read
        self._name = name
        self._path = path

    def states_end(self, fetched: FetchedPage) -> bool:
        return has_member(fetched.body, self._path)

    def next(self, fetched: FetchedPage) -> Change | None:
        value = self._read(fetched)
        request = Change()
        if isinstance(value, Mapping) and value:
            request = _whole_request(value, fetched, self._name)
            if not any(name in value for name in LINK_KEYS):
                raise ExtractError(f"{self._name} selects {as_text(value)}, which is not a link")
            value = next((value[name] for name in LINK_KEYS if value.get(name)), None)
        if is_end_mark(value):
            return None
        if not isinstance(value, str):
            raise ExtractError(f"{self._name} selects {as_text(value)}, which is not a link")
        return None if leads_nowhere(value) and not request.body else replace(request, url=value.strip())


class HeaderLink(SinglePage):
    """The Link header has the URL of the next page (RFC 8288), or another header is that URL."""

    def __init__(self, rel: str, header: str = "Link") -> None:
        self._rel = rel
        self._header = header

    def next(self, fetched: FetchedPage) -> Change | None:
        value = (fetched.page.header(self._header) or "").strip()
        if value and self._header.lower() != "link" and not value.startswith("<"):
            return None if is_end_mark(value) or leads_nowhere(value) else Change(url=value)
        target = link_target(value, self._rel)
        if target is None and mentions(value, self._rel):
            raise UsageError(f"its link cannot be read: {value[:200]!r}")
        if target is None or leads_nowhere(target):
            return None
        return Change(url=target or fetched.page.url or fetched.payload["url"])

    def states_end(self, fetched: FetchedPage) -> bool:
        return bool(fetched.page.header(self._header))  # it has links, but none to a next page

    def remaining(self, fetched: FetchedPage) -> RemainingPages | None:
        """Return the pages up to `last`, if the links `next` and `last` differ in nothing but the page number."""
        links = fetched.page.header(self._header) or ""
        following, last = link_target(links, self._rel), link_target(links, "last")
        if not following or not last:
            return None
        base = fetched.page.url or fetched.payload["url"]
        first, end = resolve(base, following), resolve(base, last)
        for name in PAGE_PARAMS:
            start_number, end_number = get_param(first, name), get_param(end, name)
            if not _is_number(start_number) or not _is_number(end_number):
                continue
            assert start_number is not None and end_number is not None
            position = ParamPosition("param", name)
            if resolve(first, _numbered(first, position, end_number)) != resolve(
                end, _numbered(end, position, end_number)
            ):
                return None
            start = int(start_number)
            count = int(end_number) - start + 1
            return RemainingPages(count, position, start, url=first) if count > 0 else None
        return None


def _is_number(text: str | None) -> bool:
    return text is not None and text.isdecimal() and len(text) <= MAX_DIGITS


def _numbered(url: str, position: ParamPosition, number: str) -> str:
    return set_params(url, {position.name: number})


class Cursor(SinglePage):
    """
    The body or a header has a value that the next request sends back.

    Args:
        read: Reads the value.
        position: Where the next request has it.
        name: Names the value in errors.
        path: Where it is in the body; empty = in a header, or unknown.
        is_in_records: It is a value of a record; implied by an index in `path`.
        kept: The only other parameters and members of the body that the next request has; None = all of this one.
    """

    def __init__(
        self,
        read: Callable[[FetchedPage], Any],
        position: ParamPosition,
        name: str,
        path: str = "",
        kept: Sequence[str] | None = None,
        *,
        is_in_records: bool = False,
    ) -> None:
        self._read = read
        self._position = position
        self._name = name
        self._path = path
        self._kept = kept
        self._is_in_records = is_in_records or "[" in path

    def states_end(self, fetched: FetchedPage) -> bool:
        return has_member(fetched.body, self._path)

    def next(self, fetched: FetchedPage) -> Change | None:
        value = self._read(fetched)
        # Servers mark the end in many ways, but the value of a record, such as the last name, is never a mark.
        if not value or (not self._is_in_records and is_end_mark(value)):
            return None
        if self._kept is not None and not isinstance(value, Mapping):
            return self._alone(fetched, value, self._kept)
        if self._position.kind == "body" and not self._position.name:
            # Members that only the last page had must not stay.
            members = dict(value) if isinstance(value, Mapping) else {}
            before = dict.fromkeys(fetched.memory.get("members") or ())
            return (
                Change(body={**before, **members}, remember={"members": list(members)}) if members else None
            )
        if self._position.kind == "body":
            return self._position.change(value)
        if isinstance(value, Mapping) and self._position.kind == "param":
            # Start from the first page's URL: parameters that only the last page had must not stay.
            first = fetched.memory.get("first") or fetched.payload["url"]
            members = {name: as_text(member) for name, member in value.items()}
            return Change(url=first, params=members, remember={"first": first})
        if isinstance(value, bool | list | Mapping):
            raise ExtractError(f"{self._name} selects {as_text(value)}, which cannot be sent as a cursor")
        return self._position.change(value)

    def _alone(self, fetched: FetchedPage, value: Any, kept: Sequence[str]) -> Change:
        """Return the change that sends a cursor without the other parameters and members of the body."""
        change = self._position.change(value)
        params = dict.fromkeys(name for name in param_names(fetched.request.url) if name not in kept)
        body = dict.fromkeys(name for name in member_names(fetched.request) if name not in kept)
        return replace(change, params={**params, **change.params}, body={**body, **change.body})


class PageNumber(PageStrategy):
    """
    The request has the number of the page.

    Args:
        position: Where the number goes.
        base: The number of the first page.
        own: Reads the page's own number from the response.
        pages: Reads the number of pages.
        maximum: The highest number to request.
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

    def next(self, fetched: FetchedPage) -> Change | None:
        number = self._number(fetched) + 1
        end = self._end(fetched)
        return None if end is not None and number >= end else self._position.change(number)

    def remaining(self, fetched: FetchedPage) -> RemainingPages | None:
        if self._pages is None or as_number(self._pages(fetched)) is None:
            return None
        end, start = self._end(fetched), self._number(fetched) + 1
        if end is None:
            return None
        return RemainingPages(max(0, end - start), self._position, start)

    def maximum_reached(self, fetched: FetchedPage) -> str:
        pages = None if self._pages is None else as_number(self._pages(fetched))
        number = self._number(fetched) + 1
        is_beyond = self._maximum is not None and number > self._maximum
        return "maximum_page" if is_beyond and (pages is None or number < self._base + pages) else ""

    def _number(self, fetched: FetchedPage) -> int:
        number = None if self._own is None else as_number(self._own(fetched))
        if number is None:
            number = as_number(self._position.current(fetched.request))
        return self._base + fetched.number - 1 if number is None else int(number)

    def _end(self, fetched: FetchedPage) -> int | None:
        """Return the first number that is too high."""
        pages = None if self._pages is None else as_number(self._pages(fetched))
        ends = [] if pages is None else [self._base + math.ceil(pages)]
        if self._maximum is not None:
            ends.append(self._maximum + 1)
        return min(ends, default=None)


class Offset(PageStrategy):
    """
    The request has the number of records to skip.

    Args:
        position: Where the offset goes.
        base: The first offset.
        limit: The requested page size; None = the server's default.
        total: Reads the number of records.
        maximum: The highest offset to request.
        filters_records: Whether the selector drops records, so that their number is not the page size.
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

    def next(self, fetched: FetchedPage) -> Change | None:
        step = self._step(fetched)
        offset = self._offset(fetched) + step
        end = self._end(fetched)
        if step <= 0 or (end is not None and offset >= end):
            return None
        return self._position.change(offset)

    def remaining(self, fetched: FetchedPage) -> RemainingPages | None:
        if self._total is None or as_number(self._total(fetched)) is None:
            return None
        step, end, offset = self._step(fetched), self._end(fetched), self._offset(fetched)
        if step <= 0 or end is None:
            return None
        count = max(0, math.ceil((end - offset) / step) - 1)
        return RemainingPages(count, self._position, offset + step, step)

    def maximum_reached(self, fetched: FetchedPage) -> str:
        total = None if self._total is None else as_number(self._total(fetched))
        offset = self._offset(fetched) + self._step(fetched)
        is_beyond = self._maximum is not None and offset > self._maximum
        ends_by_itself = total is not None and offset >= total + (1 if self._base == 1 else 0)
        return "maximum_offset" if is_beyond and not ends_by_itself else ""

    def _offset(self, fetched: FetchedPage) -> int:
        sent = as_number(self._position.current(fetched.request))
        return self._base if sent is None else int(sent)

    def _step(self, fetched: FetchedPage) -> int:
        limit = self._limit
        if limit is None:
            return fetched.count
        # If the server sends only 50 of 100 requested records, a step of 100 would lose half of them.
        return fetched.count if 0 < fetched.count < limit and not self._filters_records else limit

    def _end(self, fetched: FetchedPage) -> int | None:
        """Return the first offset that is too high."""
        total = None if self._total is None else as_number(self._total(fetched))
        # Offsets count from 0, or from 1 if the first one is 1.
        ends = [] if total is None else [math.ceil(total) + (1 if self._base == 1 else 0)]
        if self._maximum is not None:
            ends.append(self._maximum + 1)
        return min(ends, default=None)


def _whole_request(link: Mapping[str, Any], fetched: FetchedPage, name: str) -> Change:
    """
    Return the method, parameters and body of the next request, if a link object describes them, as in STAC.

    A body replaces that of this request, unless the link says `merge: true`.

    Raises:
        UsageError: the next request has a method that could change something.
    """
    method = str(link.get("method") or fetched.request.method).upper()
    if method not in ("GET", "POST", fetched.request.method.upper()):
        raise UsageError(f"{name} describes a {method} request")
    body = next((link[key] for key in ("body", "json", "data", "payload") if key in link), None)
    params = link.get("params")
    members: dict[str, Any] = {}
    if isinstance(body, Mapping) and method != "GET":
        members = {
            **({} if link.get("merge") is True else dict.fromkeys(member_names(fetched.request))),
            **body,
        }
    return Change(params=params if isinstance(params, Mapping) else {}, body=members, method=method)


def has_member(body: Any, path: str) -> bool:
    """Return whether a plain dotted path leads to a member of the body, even if it is null."""
    *way, last = path.removeprefix("$.").split(".")
    for name in way:
        body = body.get(name) if isinstance(body, Mapping) else None
    return isinstance(body, Mapping) and last in body
