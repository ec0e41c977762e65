"""A walk from page to page: where it goes on, where it ends, and whether it goes round in a circle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from scrapeq.expression import as_text
from scrapeq.extract.autodetect.detect import Detector
from scrapeq.extract.paginators import RemainingPages, FetchedPage, PageStrategy, page_strategy, in_body
from scrapeq.plan import Paginator
from scrapeq.protocols import Change
from scrapeq.resource import payload_key
from scrapeq.resource.address import digest
from scrapeq.task import NewTask

FAN_OUT_MAX = 100_000
"""Pages that a fan-out asks for at once; a count above it is walked one after the other."""

EMPTY_PAGES_REPORTED = 100
"""Empty pages in a row that are worth a line."""

_FINGERPRINT_LENGTH = 16  # hex digits: 64 bits tell the pages of one walk apart
_STREAMABLE = frozenset({"single_page", "header_link", "header_cursor", "page_number", "offset"})
"""Those that can do without the whole body: rows may be read one by one under them."""
_TOTALS = frozenset({"total", "total_header", "pages", "pages_header"})
"""What `auto` keeps of an answer that told how much there is."""
_FALSE_TEXTS = frozenset({"false", "0", "no", ""})

BuildTask = Callable[[Change, Mapping[str, Any], int], NewTask]
"""(change, what the payload keeps of the walk, the page's number) -> its task."""


@dataclass(slots=True)
class NextPages:
    """
    What follows a page in its walk: the next page, or all of them; and what is worth a line.

    `ended`: nothing follows, and no other page of the walk was asked for beside this one.
    """

    next_page: NewTask | None = None
    remaining: Iterator[NewTask] | None = None
    events: list[str] = field(default_factory=list)
    is_last: bool = True


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
        self._strategy = page_strategy(paginator, selector)
        self._detector = Detector(selector) if paginator.type == "auto" else None
        self._has_more = in_body(paginator.has_more_path, "has_more_path")
        self.can_stream = paginator.type in _STREAMABLE

    @property
    def is_paginated(self) -> bool:
        """Whether there can be a second page at all."""
        return self._paginator.type != "single_page"

    @property
    def _is_bounded(self) -> bool:
        paginator = self._paginator
        return (paginator.max_pages or paginator.maximum_page or paginator.maximum_offset) is not None

    def next_pages(self, at: FetchedPage, scope: Mapping[str, Any], build: BuildTask) -> NextPages:
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
        next_pages = NextPages()
        state = dict(at.payload.get("walk") or {})
        if at.number < state.get("until", 0) or not self.is_paginated:
            next_pages.is_last = not self.is_paginated  # the pages behind it have been asked for already
            return next_pages
        strategy = self._strategy_for(at, state, next_pages)
        if self._is_last_page(at, strategy, scope):
            if at.number == 2 and not at.count and not _TOTALS.isdisjoint(state.get("auto") or ()):
                next_pages.events.append(
                    f"auto   {self._name}: page 2 is empty, though the first answer told of more; name a paginator"
                )
            return next_pages
        if self._paginator.fan_out and at.number == 1:
            remaining = self._remaining(at, strategy)
            if remaining is not None:
                next_pages.remaining = self._fan_out_tasks(remaining, state, build)
                next_pages.is_last = remaining.count < 1
                return next_pages
            if strategy.next(at) is not None:
                next_pages.events.append(
                    f"pages  {self._name}: fan_out: the answer does not tell how many there are; one after the other"
                )
        change = strategy.next(at)
        if change is None:
            return next_pages
        if self._repeats_previous(at, strategy, state, next_pages):
            return next_pages
        self._count_empty(at, state, next_pages)
        state.pop("own", None)
        state.pop("guess", None)
        if strategy.is_open_ended and strategy.remaining(at) is None:
            state["guess"] = True
        if change.remember:
            state["own"] = dict(change.remember)
        self._follow(at, change, state, build, next_pages)
        return next_pages

    def _strategy_for(self, at: FetchedPage, state: dict[str, Any], next_pages: NextPages) -> PageStrategy:
        if self._detector is None:
            return self._strategy
        found = state.get("auto")
        if found is None and at.number == 1 and not (self._paginator.implied and _is_one_record(at)):
            found, why = self._detector.find(at)
            if found is not None and self._paginator.implied and self._is_guess(found, at):
                found, why = None, ""
            if why:
                next_pages.events.append(f"auto   {self._name}: {why}")
            if found is not None:
                state["auto"] = found
        return self._strategy if found is None else self._detector.page_strategy(found)

    def _is_guess(self, found: Mapping[str, Any], at: FetchedPage) -> bool:
        """Whether the answer itself says nothing of more: who asked for a page by its number may want no other."""
        assert self._detector is not None
        strategy = self._detector.page_strategy(found)
        return strategy.is_open_ended and strategy.remaining(at) is None

    def _is_last_page(self, at: FetchedPage, strategy: PageStrategy, scope: Mapping[str, Any]) -> bool:
        paginator = self._paginator
        if paginator.max_pages is not None and at.number >= paginator.max_pages:
            return True
        stops = paginator.stop_after_empty_page
        # An empty page in the middle of a walk is common behind a cursor or a link, never behind a number.
        if not at.count and (strategy.is_open_ended if stops is None else stops):
            return True
        if self._has_more is not None:
            more = self._has_more(at)
            # A server that leaves false values out says nothing here: null ends no walk, unless nothing came either.
            if more is None:
                if not at.count and stops is not False:
                    return True
            elif (as_text(more) or "").lower() in _FALSE_TEXTS:
                return True
        return paginator.stop_when is not None and bool(paginator.stop_when.evaluate(scope))

    def _remaining(self, at: FetchedPage, strategy: PageStrategy) -> RemainingPages | None:
        remaining = strategy.remaining(at)
        if remaining is None or remaining.count > FAN_OUT_MAX:
            return None
        if self._paginator.max_pages is not None:
            remaining = RemainingPages(min(remaining.count, self._paginator.max_pages - 1), remaining.change)
        return remaining

    def _fan_out_tasks(
        self, remaining: RemainingPages, state: Mapping[str, Any], build: BuildTask
    ) -> Iterator[NewTask]:
        last = remaining.count + 1  # it may find that there are more by now, and goes on
        for index in range(remaining.count):
            yield build(remaining.change(index), {**state, "until": last}, index + 2)

    def _repeats_previous(
        self, at: FetchedPage, strategy: PageStrategy, state: dict[str, Any], next_pages: NextPages
    ) -> bool:
        """Whether a server that does not look at the number gives the same page for each, and nothing else ends it."""
        before = state.pop("same", None)
        if not strategy.is_open_ended or at.records is None:
            return False
        if not strategy.is_unverified and (
            self._is_bounded or strategy.remaining(at) is not None or self._reports_more(at)
        ):
            return False
        state["same"] = _fingerprint(orjson.dumps(at.records, option=orjson.OPT_NON_STR_KEYS))
        if at.number == 1 or not at.count or before != state["same"]:
            return False
        next_pages.events.append(
            f"loop   {self._name}: page {at.number} is the page before it once more; the walk ends there"
        )
        return True

    def _count_empty(self, at: FetchedPage, state: dict[str, Any], next_pages: NextPages) -> None:
        """Some servers name a next page for ever; many empty ones in a row may be meant, so they are only told."""
        if at.count:
            state.pop("empty", None)
            return
        state["empty"] = empty = state.get("empty", 0) + 1
        if empty % EMPTY_PAGES_REPORTED == 0:
            next_pages.events.append(
                f"check  {self._name}: {empty} pages in a row have no record, and each leads on; "
                "stop_after_empty_page: true ends such a walk"
            )

    def _reports_more(self, at: FetchedPage) -> bool:
        return self._has_more is not None and self._has_more(at) is not None

    def _follow(
        self, at: FetchedPage, change: Change, state: dict[str, Any], build: BuildTask, next_pages: NextPages
    ) -> None:
        """
        The next page, unless the walk has been there.

        Circles of any length are found by Brent's algorithm: the request of one earlier page is remembered, that of
        the last page whose number was a power of two; each next one is compared with it.
        """
        current_page = _fingerprint(payload_key(at.payload).encode(errors="replace"))
        if at.number & (at.number - 1) == 0:
            state["seen"] = current_page
        task = build(change, state, at.number + 1)
        next_page = _fingerprint(task.key.encode(errors="replace"))
        if next_page == current_page:
            next_pages.events.append(
                f"loop   {self._name}: page {at.number} names itself as the next; the walk ends there"
            )
        elif next_page == state.get("seen"):
            next_pages.events.append(
                f"loop   {self._name}: page {at.number} leads back to a page before it; the walk ends there"
            )
        else:
            next_pages.next_page, next_pages.is_last = task, False


def _is_one_record(at: FetchedPage) -> bool:
    """Whether the answer is a record by itself: what it calls next is another one, and no page of a list."""
    return at.records is not None and len(at.records) == 1 and at.records[0] is at.body


def _fingerprint(data: bytes) -> str:
    return digest(data)[:_FINGERPRINT_LENGTH]
