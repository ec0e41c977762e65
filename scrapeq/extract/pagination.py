"""A walk from page to page: where it goes on, where it ends, and whether it goes round in a circle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from scrapeq.expression import as_text
from scrapeq.extract.autodetect.detect import Detector
from scrapeq.extract.paginators import Ahead, FetchedPage, Forward, forward, in_body
from scrapeq.plan import Paginator
from scrapeq.protocols import Change
from scrapeq.resource import payload_key
from scrapeq.resource.address import digest
from scrapeq.task import NewTask

MAX_AHEAD = 100_000
"""Pages that a fan-out asks for at once; a count above it is walked one after the other."""

EMPTY_REPORTED = 100
"""Empty pages in a row that are worth a line."""

_MARK_LENGTH = 16  # hex digits: 64 bits tell the pages of one walk apart
_STREAMED = frozenset({"single_page", "header_link", "header_cursor", "page_number", "offset"})
"""Those that can do without the whole body: rows may be read one by one under them."""
_TOTALS = frozenset({"total", "total_header", "pages", "pages_header"})
"""What `auto` keeps of an answer that told how much there is."""
_NO_MORE = frozenset({"false", "0", "no", ""})

Build = Callable[[Change, Mapping[str, Any], int], NewTask]
"""(change, what the payload keeps of the walk, the page's number) -> its task."""


@dataclass(slots=True)
class Onward:
    """
    What follows a page in its walk: the next page, or all of them; and what is worth a line.

    `ended`: nothing follows, and no other page of the walk was asked for beside this one.
    """

    next_page: NewTask | None = None
    ahead: Iterator[NewTask] | None = None
    events: list[str] = field(default_factory=list)
    ended: bool = True


class Pagination:
    """
    The walk of a resource. What it must remember is in the payload's `walk`, of constant size:

        {"seen": mark of an earlier request, "same": mark of the records of the page before,
         "own": what the paginator remembers, "auto": what `auto` has found, "until": the last page of a fan-out,
         "empty": how many pages in a row had no record,
         "headers": names of the headers that the paginator sets, "guess": whether this page may be behind the end}

    Raises:
        UsageError: a path of the paginator is none, or there is no such paginator.
    """

    def __init__(self, name: str, paginator: Paginator, selector: str = "") -> None:
        self._name = name
        self._paginator = paginator
        self._forward = forward(paginator, selector)
        self._detector = Detector(selector) if paginator.type == "auto" else None
        self._has_more = in_body(paginator.has_more_path, "has_more_path")
        self.streams = paginator.type in _STREAMED

    @property
    def goes_on(self) -> bool:
        """Whether there can be a second page at all."""
        return self._paginator.type != "single_page"

    @property
    def _is_bounded(self) -> bool:
        paginator = self._paginator
        return (paginator.max_pages or paginator.maximum_page or paginator.maximum_offset) is not None

    def onward(self, at: FetchedPage, scope: Mapping[str, Any], build: Build) -> Onward:
        """
        What follows this page.

        Args:
            at: The page.
            scope: What `stop_when` may read.
            build: Makes tasks.

        Raises:
            ExtractError: the answer has something that leads nowhere.
            UsageError: the next page has no http(s) address, or its request cannot be made.
        """
        onward = Onward()
        kept = dict(at.payload.get("walk") or {})
        if at.number < kept.get("until", 0) or not self.goes_on:
            onward.ended = not self.goes_on  # the pages behind it have been asked for already
            return onward
        way = self._way(at, kept, onward)
        if self._ends_here(at, way, scope):
            if at.number == 2 and not at.count and not _TOTALS.isdisjoint(kept.get("auto") or ()):
                onward.events.append(
                    f"auto   {self._name}: page 2 is empty, though the first answer told of more; name a paginator"
                )
            return onward
        if self._paginator.fan_out and at.number == 1:
            ahead = self._ahead(at, way)
            if ahead is not None:
                onward.ahead = self._all(ahead, kept, build)
                onward.ended = ahead.count < 1
                return onward
            if way.next(at) is not None:
                onward.events.append(
                    f"pages  {self._name}: fan_out: the answer does not tell how many there are; one after the other"
                )
        change = way.next(at)
        if change is None:
            return onward
        if self._stands_still(at, way, kept, onward):
            return onward
        self._count_empty(at, kept, onward)
        kept.pop("own", None)
        kept.pop("guess", None)
        if way.guesses and way.ahead(at) is None:
            kept["guess"] = True
        if change.remember:
            kept["own"] = dict(change.remember)
        self._go(at, change, kept, build, onward)
        return onward

    def _way(self, at: FetchedPage, kept: dict[str, Any], onward: Onward) -> Forward:
        if self._detector is None:
            return self._forward
        found = kept.get("auto")
        if found is None and at.number == 1 and not (self._paginator.implied and _is_one_record(at)):
            found, why = self._detector.find(at)
            if found is not None and self._paginator.implied and self._is_guess(found, at):
                found, why = None, ""
            if why:
                onward.events.append(f"auto   {self._name}: {why}")
            if found is not None:
                kept["auto"] = found
        return self._forward if found is None else self._detector.forward(found)

    def _is_guess(self, found: Mapping[str, Any], at: FetchedPage) -> bool:
        """Whether the answer itself says nothing of more: who asked for a page by its number may want no other."""
        assert self._detector is not None
        way = self._detector.forward(found)
        return way.guesses and way.ahead(at) is None

    def _ends_here(self, at: FetchedPage, way: Forward, scope: Mapping[str, Any]) -> bool:
        paginator = self._paginator
        if paginator.max_pages is not None and at.number >= paginator.max_pages:
            return True
        stops = paginator.stop_after_empty_page
        # An empty page in the middle of a walk is common behind a cursor or a link, never behind a number.
        if not at.count and (way.guesses if stops is None else stops):
            return True
        if self._has_more is not None:
            more = self._has_more(at)
            # A server that leaves false values out says nothing here: null ends no walk, unless nothing came either.
            if more is None:
                if not at.count and stops is not False:
                    return True
            elif (as_text(more) or "").lower() in _NO_MORE:
                return True
        return paginator.stop_when is not None and bool(paginator.stop_when.evaluate(scope))

    def _ahead(self, at: FetchedPage, way: Forward) -> Ahead | None:
        ahead = way.ahead(at)
        if ahead is None or ahead.count > MAX_AHEAD:
            return None
        if self._paginator.max_pages is not None:
            ahead = Ahead(min(ahead.count, self._paginator.max_pages - 1), ahead.change)
        return ahead

    def _all(self, ahead: Ahead, kept: Mapping[str, Any], build: Build) -> Iterator[NewTask]:
        last = ahead.count + 1  # it may find that there are more by now, and goes on
        for index in range(ahead.count):
            yield build(ahead.change(index), {**kept, "until": last}, index + 2)

    def _stands_still(self, at: FetchedPage, way: Forward, kept: dict[str, Any], onward: Onward) -> bool:
        """Whether a server that does not look at the number gives the same page for each, and nothing else ends it."""
        before = kept.pop("same", None)
        if not way.guesses or at.records is None:
            return False
        if not way.probes and (self._is_bounded or way.ahead(at) is not None or self._tells_more(at)):
            return False
        kept["same"] = _mark(orjson.dumps(at.records, option=orjson.OPT_NON_STR_KEYS))
        if at.number == 1 or not at.count or before != kept["same"]:
            return False
        onward.events.append(
            f"loop   {self._name}: page {at.number} is the page before it once more; the walk ends there"
        )
        return True

    def _count_empty(self, at: FetchedPage, kept: dict[str, Any], onward: Onward) -> None:
        """Some servers name a next page for ever; many empty ones in a row may be meant, so they are only told."""
        if at.count:
            kept.pop("empty", None)
            return
        kept["empty"] = empty = kept.get("empty", 0) + 1
        if empty % EMPTY_REPORTED == 0:
            onward.events.append(
                f"check  {self._name}: {empty} pages in a row have no record, and each leads on; "
                "stop_after_empty_page: true ends such a walk"
            )

    def _tells_more(self, at: FetchedPage) -> bool:
        return self._has_more is not None and self._has_more(at) is not None

    def _go(
        self, at: FetchedPage, change: Change, kept: dict[str, Any], build: Build, onward: Onward
    ) -> None:
        """
        The next page, unless the walk has been there.

        Circles of any length are found by Brent's algorithm: the request of one earlier page is remembered, that of
        the last page whose number was a power of two; each next one is compared with it.
        """
        here = _mark(payload_key(at.payload).encode(errors="replace"))
        if at.number & (at.number - 1) == 0:
            kept["seen"] = here
        task = build(change, kept, at.number + 1)
        there = _mark(task.key.encode(errors="replace"))
        if there == here:
            onward.events.append(
                f"loop   {self._name}: page {at.number} names itself as the next; the walk ends there"
            )
        elif there == kept.get("seen"):
            onward.events.append(
                f"loop   {self._name}: page {at.number} leads back to a page before it; the walk ends there"
            )
        else:
            onward.next_page, onward.ended = task, False


def _is_one_record(at: FetchedPage) -> bool:
    """Whether the answer is a record by itself: what it calls next is another one, and no page of a list."""
    return at.records is not None and len(at.records) == 1 and at.records[0] is at.body


def _mark(data: bytes) -> str:
    return digest(data)[:_MARK_LENGTH]
