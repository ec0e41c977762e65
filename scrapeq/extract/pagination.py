"""The pagination of a resource: what the next page is, where the pages end, and whether they form a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from scrapeq.expression import as_text
from scrapeq.extract.autodetect.detect import Detector, flag_of, is_later, states_end
from scrapeq.extract.page_strategies import in_body, page_strategy
from scrapeq.extract.paginators import FetchedPage, PageStrategy, RemainingPages
from scrapeq.plan import Paginator
from scrapeq.protocols import Change
from scrapeq.resource import payload_key
from scrapeq.resource.address import digest, resolve, without_downgrade
from scrapeq.resource.payload import DetectedPaginator, PaginationState
from scrapeq.task import NewTask

FAN_OUT_MAX = 100_000
"""The most pages that a fan-out requests at once; with more, the pages follow one another."""

_FINGERPRINT_LENGTH = 16  # hex digits: 64 bits distinguish the pages of one resource
_STREAMABLE = frozenset({"single_page", "header_link", "header_cursor", "page_number", "offset"})
"""The paginators that do not need the whole body, so that rows may be read one by one."""
_TOTALS = frozenset({"total", "total_header", "pages", "pages_header"})
"""The keys of a detected paginator whose response reported how much there is."""
_FALSE_TEXTS = frozenset({"false", "0", "no", "n", "none", "null", ""})

BuildTask = Callable[[Change, PaginationState, int], NewTask]
"""(change, the next page's state, its number) -> its task."""


@dataclass(slots=True)
class NextPages:
    """
    What follows a page: the next page, or all remaining ones, and the events to print.

    `is_last`: nothing follows, and no page of the same pagination was requested at the same time.
    `incomplete`: why the pages end here although more may follow, with the remedy; empty = they are complete, or go on.
    Such a page sequence stores no state, and the run reports it.
    """

    next_page: NewTask | None = None
    remaining: Iterator[NewTask] | None = None
    events: list[str] = field(default_factory=list)
    is_last: bool = True
    incomplete: str = ""


class Pagination:
    """
    The pagination of one resource. Its state is in the payload (`scrapeq.resource.payload.PaginationState`).

    Raises:
        UsageError: a path of the paginator is invalid, or there is no such paginator.
    """

    def __init__(self, name: str, paginator: Paginator, selector: str = "") -> None:
        self._name = name
        self._paginator = paginator
        self._strategy = page_strategy(paginator, selector)
        self._detector = Detector(selector) if paginator.type == "auto" else None
        self._has_more = in_body(paginator.has_more_path, "has_more_path")
        self.can_stream = paginator.type in _STREAMABLE
        self._has_reported_upgrade = False

    @property
    def is_paginated(self) -> bool:
        """Whether there can be a second page at all."""
        return self._paginator.type != "single_page"

    def states_what_follows(self, fetched: FetchedPage, scope: Mapping[str, Any]) -> bool:
        """
        Return whether a later page without records is a page of its kind nevertheless: it links on, or states the end.

        An error that nobody recognizes does neither.
        """
        paginator = self._paginator
        if paginator.stop_when is not None and bool(paginator.stop_when.evaluate(scope)):
            return True
        if self._reports_more(fetched):
            return True
        strategy = self._strategy_for(fetched, {**(fetched.payload.get("walk") or {})}, NextPages())
        if strategy.is_open_ended:
            return strategy.remaining(fetched) is not None
        return strategy.next(fetched) is not None or strategy.states_end(fetched)

    @property
    def _is_bounded(self) -> bool:
        paginator = self._paginator
        return (paginator.max_pages or paginator.maximum_page or paginator.maximum_offset) is not None

    def next_pages(self, fetched: FetchedPage, scope: Mapping[str, Any], build: BuildTask) -> NextPages:
        """
        Return what follows a page.

        Args:
            fetched: The page.
            scope: What `stop_when` may read.
            build: Builds the tasks.

        Raises:
            ExtractError: the response has an invalid link or cursor.
            UsageError: the next page's URL is not an http(s) URL, or its request is invalid.
        """
        next_pages = NextPages()
        state: PaginationState = {**(fetched.payload.get("walk") or {})}
        if fetched.number < state.get("until", 0) or not self.is_paginated:
            next_pages.is_last = not self.is_paginated  # in a fan-out, the next pages are already requested
            return next_pages
        strategy = self._strategy_for(fetched, state, next_pages)
        if fetched.number == 1 and fetched.is_matched:
            state["matched"] = True
        self._count(fetched, state)
        if self._is_wrong_guess(fetched, state):
            next_pages.incomplete = "page 2 is empty, but page 1 reported more records; set `paginator`"
            next_pages.events.append(f"auto   {self._name}: {next_pages.incomplete}")
            return next_pages
        if self._stops(scope):
            return next_pages
        if self._is_last_page(fetched, strategy):
            self._check_total(fetched, strategy, state, next_pages)
            return next_pages
        if self._paginator.max_pages is not None and fetched.number >= self._paginator.max_pages:
            if strategy.next(fetched) is not None or strategy.maximum_reached(fetched):
                next_pages.incomplete = _bound_reason("max_pages", self._paginator.max_pages, fetched)
            return next_pages
        if self._paginator.fan_out and fetched.number == 1:
            remaining = self._remaining(fetched, strategy)
            if remaining is not None:
                if remaining.count > 0:
                    self._report_upgrade(fetched, remaining.change(0), next_pages)
                next_pages.remaining = self._fan_out_tasks(remaining, state, build)
                next_pages.is_last = remaining.count < 1
                if next_pages.is_last:
                    self._check_maximum(fetched, strategy, next_pages)
                return next_pages
            if strategy.next(fetched) is not None:
                next_pages.events.append(
                    f"pages  {self._name}: the response does not report the number of pages that fan_out needs; "
                    "requesting one page after the other"
                )
        change = strategy.next(fetched)
        if change is not None and self._flag_has_turned(fetched, strategy, state):
            return next_pages
        if change is None:
            self._check_maximum(fetched, strategy, next_pages)
            self._check_total(fetched, strategy, state, next_pages)
            return next_pages
        if self._repeats_previous(fetched, strategy, state, next_pages):
            return next_pages
        if self._is_idle(fetched, strategy, state) and self._ends_idle(fetched, state, next_pages):
            return next_pages
        for name in ("own", "guess", "ahead"):
            state.pop(name, None)  # type: ignore[misc]  # all of them are optional
        known = strategy.remaining(fetched)
        if (strategy.is_open_ended and known is None) or _says_end(fetched, state):
            state["guess"] = True
        if known is not None and self._paginator.max_pages is not None:
            known = replace(known, count=min(known.count, self._paginator.max_pages - fetched.number))
        if known is not None and known.ahead is not None:
            state["ahead"] = known.ahead
        if change.remember:
            state["own"] = dict(change.remember)
        self._follow(fetched, change, state, build, next_pages)
        return next_pages

    def _strategy_for(
        self, fetched: FetchedPage, state: PaginationState, next_pages: NextPages
    ) -> PageStrategy:
        if self._detector is None:
            return self._strategy
        found = state.get("auto")
        if (
            found is None
            and fetched.number == 1
            and not (self._paginator.implied and _is_one_record(fetched))
        ):
            found, why = self._detector.find(fetched)
            if found is not None and self._paginator.implied and self._is_guess(found, fetched):
                found, why = None, ""
            if why:
                next_pages.events.append(f"auto   {self._name}: {why}")
                if found is None:
                    next_pages.incomplete = why
            if found is not None:
                state["auto"] = found
        return self._strategy if found is None else self._detector.page_strategy(found)

    def _is_guess(self, found: DetectedPaginator, fetched: FetchedPage) -> bool:
        """Return whether the response reports no further pages: a page number in the request may be deliberate."""
        assert self._detector is not None
        strategy = self._detector.page_strategy(found)
        return strategy.is_open_ended and strategy.remaining(fetched) is None

    def _is_wrong_guess(self, fetched: FetchedPage, state: PaginationState) -> bool:
        is_empty = fetched.number == 2 and not fetched.count
        return is_empty and not _TOTALS.isdisjoint(state.get("auto") or ())

    def _stops(self, scope: Mapping[str, Any]) -> bool:
        stop_when = self._paginator.stop_when
        return stop_when is not None and bool(stop_when.evaluate(scope))

    def _is_last_page(self, fetched: FetchedPage, strategy: PageStrategy) -> bool:
        paginator = self._paginator
        stops = paginator.stop_after_empty_page
        if stops is None and strategy.is_open_ended:
            # With cursors and links, empty pages before the end are common. With page numbers and offsets they are
            # not, unless the response still reports that more follow.
            known = strategy.remaining(fetched)
            stops = known is None or known.count < 1
        if not fetched.count and stops:
            return True
        if self._has_more is not None:
            more = self._has_more(fetched)
            # Servers may omit false values: a missing flag ends the pagination on an empty page only.
            if more is None:
                if not fetched.count and stops is not False:
                    return True
            elif (as_text(more) or "").strip().lower() in _FALSE_TEXTS:
                return True
        return False

    @staticmethod
    def _count(fetched: FetchedPage, state: PaginationState) -> None:
        """Count the records of the pages so far, unless the pages do not follow one another."""
        if fetched.number == 1:
            state["size"] = fetched.count
            if not is_later(fetched):
                state["count"] = fetched.count
        elif "count" in state:
            state["count"] += fetched.count

    def _check_total(
        self, fetched: FetchedPage, strategy: PageStrategy, state: PaginationState, next_pages: NextPages
    ) -> None:
        """
        Report a pagination of `auto` that ends although the response reports more records than its pages had.

        Totals are often a little too high. If the response also states that nothing follows, a total is believed only
        if at least a page is missing.
        """
        if self._detector is None or "count" not in state or "until" in state or next_pages.incomplete:
            return
        total, states_end = self._detector.total(fetched)
        missing = 0 if total is None else total - state["count"]
        if missing <= 0 or ((states_end or strategy.states_end(fetched)) and missing < max(1, state["size"])):
            return
        next_pages.incomplete = (
            f"the response reports {total} records, but the pages had {state['count']}; set `paginator`"
        )
        next_pages.events.append(f"auto   {self._name}: {next_pages.incomplete}")

    def _check_maximum(self, fetched: FetchedPage, strategy: PageStrategy, next_pages: NextPages) -> None:
        """Report a last page that is the last one only because of `maximum_page` or `maximum_offset`."""
        if bound := strategy.maximum_reached(fetched):
            next_pages.incomplete = _bound_reason(bound, getattr(self._paginator, bound), fetched)

    def _remaining(self, fetched: FetchedPage, strategy: PageStrategy) -> RemainingPages | None:
        remaining = strategy.remaining(fetched)
        if remaining is None or remaining.count > FAN_OUT_MAX:
            return None
        if self._paginator.max_pages is not None:
            remaining = replace(remaining, count=min(remaining.count, self._paginator.max_pages - 1))
        return remaining

    def _fan_out_tasks(
        self, remaining: RemainingPages, state: PaginationState, build: BuildTask
    ) -> Iterator[NewTask]:
        last = remaining.count + 1  # this page continues the pagination if there are more pages by then
        for index in range(remaining.count):
            yield build(remaining.change(index), {**state, "until": last}, index + 2)

    def _flag_has_turned(self, fetched: FetchedPage, strategy: PageStrategy, state: PaginationState) -> bool:
        """
        Return whether a flag says that nothing follows after an earlier page had it say that more follow.

        A flag that changes is about the pages. One that always says the same may be about something else.
        """
        if strategy.is_open_ended or self._has_more is not None or fetched.records is None:
            return False
        more = flag_of(fetched)
        if more:
            state["more"] = True
        return more is False and state.get("more", False)

    def _repeats_previous(
        self, fetched: FetchedPage, strategy: PageStrategy, state: PaginationState, next_pages: NextPages
    ) -> bool:
        """
        Return whether a page has the records of the page before, as from a server that ignores the page number.

        Only where nothing but an empty page would end the pagination.
        """
        before = state.pop("same", None)
        if not strategy.is_open_ended or fetched.records is None:
            return False
        if not strategy.is_unverified and (
            self._is_bounded or strategy.remaining(fetched) is not None or self._reports_more(fetched)
        ):
            return False
        state["same"] = _fingerprint(orjson.dumps(fetched.records, option=orjson.OPT_NON_STR_KEYS))
        if fetched.number == 1 or not fetched.count or before != state["same"]:
            return False
        if not _says_end(fetched, state):
            self._stop_loop(next_pages, f"page {fetched.number} repeats the records of the page before")
        return True

    def _stop_loop(self, next_pages: NextPages, loop: str) -> None:
        """End the pagination because of a loop, which may be an end that is not understood."""
        next_pages.incomplete = f"{loop}; pagination stopped. If that marks the end, say so with `stop_when`"
        next_pages.events.append(f"loop   {self._name}: {next_pages.incomplete}")

    def _is_idle(self, fetched: FetchedPage, strategy: PageStrategy, state: PaginationState) -> bool:
        """Return whether a page has no new record: it is empty, or all its records were on the pages before it."""
        if not fetched.count:
            return True
        if fetched.seen is None or (strategy.is_open_ended and strategy.remaining(fetched) is not None):
            return False  # a known number of pages ends by itself
        if fetched.count < state.get("size", 0) and not state.get("ended") and _says_end(fetched, state):
            state["ended"] = True  # only a short page is a likely last one
        has_new, is_exact = fetched.seen.has_new(), fetched.seen.is_exact
        state["sample"] = fetched.seen.state()
        if has_new is not False:
            state.pop("empty", None)
        elif not is_exact:
            state["empty"] = (
                self._paginator.max_empty_pages
            )  # many records had to come back until that was certain
        return has_new is False

    def _ends_idle(self, fetched: FetchedPage, state: PaginationState, next_pages: NextPages) -> bool:
        """
        Return whether the pagination ends at a page without a new record, although it has a next page.

        Some servers link to a next page forever. Where one has stated that nothing follows, the pages are complete.
        """
        if _says_end(fetched, state):
            return True
        most = self._paginator.max_empty_pages
        state["empty"] = min(state.get("empty", 0) + 1, most)
        if state["empty"] < most:
            return False
        in_a_row = f"{most} pages in a row" if most > 1 else "a page"
        next_pages.incomplete = (
            f"{in_a_row} had no new record but a next page; pagination stopped at page {fetched.number}. If such gaps "
            "are regular, raise `max_empty_pages`; if an empty page is the end, set `stop_after_empty_page: true`"
        )
        next_pages.events.append(f"loop   {self._name}: {next_pages.incomplete}")
        return True

    def _reports_more(self, fetched: FetchedPage) -> bool:
        return self._has_more is not None and self._has_more(fetched) is not None

    def _follow(
        self,
        fetched: FetchedPage,
        change: Change,
        state: PaginationState,
        build: BuildTask,
        next_pages: NextPages,
    ) -> None:
        """
        Request the next page unless it was requested before.

        Loops of any length are found with Brent's algorithm: the state holds the request of one earlier page, the last
        one whose number was a power of two, and each next request is compared with it.
        """
        current_page = _fingerprint(payload_key(fetched.payload).encode(errors="replace"))
        if fetched.number & (fetched.number - 1) == 0:
            state["seen"] = current_page
        task = build(change, state, fetched.number + 1)
        next_page = _fingerprint(task.key.encode(errors="replace"))
        if next_page in (current_page, state.get("seen")):
            # An empty page that names itself as the next one is an end, as with `cursorMark` of Solr.
            if not _says_end(fetched, state) and (fetched.count or next_page != current_page):
                where = "itself" if next_page == current_page else "back to an earlier page"
                self._stop_loop(next_pages, f"page {fetched.number} links to {where}")
        else:
            self._report_upgrade(fetched, change, next_pages)
            next_pages.next_page, next_pages.is_last = task, False

    def _report_upgrade(self, fetched: FetchedPage, change: Change, next_pages: NextPages) -> None:
        """Report once that next links use http on the page's own https host, and are followed with https."""
        base = fetched.page.url or fetched.payload["url"]
        if self._has_reported_upgrade or not change.url or not base.startswith("https:"):
            return
        link = resolve(base, change.url)
        if without_downgrade(base, link) != link:
            self._has_reported_upgrade = True
            next_pages.events.append(
                f"check  {self._name}: the links to the next page use http on the host of this https page; "
                "they are followed with https"
            )


def _says_end(fetched: FetchedPage, state: PaginationState) -> bool:
    """Return whether this page or an earlier one states that nothing follows, beside its next link."""
    return bool(state.get("ended")) or states_end(fetched, state.get("count"))


def _bound_reason(name: str, bound: int, fetched: FetchedPage) -> str:
    """Return why a pagination that a configured bound ended is incomplete."""
    return (
        f"{name} ({bound}) ended the pagination, and more pages may follow; raise {name}, or use "
        f"`stop_when: page >= {fetched.number}` if these pages are all that is wanted"
    )


def _is_one_record(fetched: FetchedPage) -> bool:
    """Return whether the response is a single record: what it calls next is another record, not a page."""
    return fetched.records is not None and len(fetched.records) == 1 and fetched.records[0] is fetched.body


def _fingerprint(data: bytes) -> str:
    return digest(data)[:_FINGERPRINT_LENGTH]
