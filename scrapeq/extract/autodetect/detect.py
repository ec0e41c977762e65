"""
`paginator: auto`: detects from the first response how the next page is requested.

Links go before cursors, cursors before numbers. The result is plain JSON and stays in the payload of the following
pages, so that detection runs once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from scrapeq.expression import as_number, as_text
from scrapeq.extract import known_names as names
from scrapeq.extract.autodetect.found import build_strategy, header_number
from scrapeq.extract.autodetect.injection import (
    cursor_position_in,
    describe_position,
    is_elasticsearch,
    is_spring,
    known_param,
    members_position,
    numbered_position,
    positions,
    requested_body,
    requested_values,
)
from scrapeq.extract.autodetect.signals import (
    Signals,
    Steps,
    format_path,
    looks_like_number,
    resolve_path,
    signals_of,
)
from scrapeq.extract.known_names import normalize
from scrapeq.extract.link_header import link_target, mentions
from scrapeq.extract.page_end import is_past_end
from scrapeq.extract.paginators import FetchedPage, PageStrategy
from scrapeq.resource.next_request import ParamPosition
from scrapeq.resource.payload import DetectedPaginator

STRATEGIES_CACHED = 100
"""The most strategies that a detector caches."""


class Detection(NamedTuple):
    """A detected paginator, and its description for the user."""

    paginator: DetectedPaginator
    description: str


class Detector:
    """
    Detects the paginator of a first response, and builds its strategy.

    Args:
        selector: The data_selector. With a filter in it, the number of records is not the page size.
    """

    def __init__(self, selector: str) -> None:
        self._filters_records = "[?" in selector
        self._strategies: dict[bytes, PageStrategy] = {}

    def find(self, fetched: FetchedPage) -> tuple[DetectedPaginator | None, str]:
        """
        Return the paginator of a first page, and an event for the user.

        Returns:
            (None, "") if the response seems to be complete, (None, reason) if it seems not to be.
        """
        records = fetched.records or ()
        signals = signals_of(fetched.body, records)
        links = fetched.page.header("link") or ""
        flag = signals.more
        signals.drop_truncation_flag()
        signals.ended = signals.ended or any(link_target(links, rel) for rel in ("first", "prev", "last"))
        found = self._link(fetched, signals) or self._cursor(fetched, signals)
        if found is None and not signals.ended and signals.has_more is not False:
            found = self._numbers(fetched, signals)
        if found is None:
            signals.more = flag  # without anything that leads on, it is a statement
            return None, self._why_not(fetched, signals)
        paginator = found.paginator
        if signals.more is not None and "more" not in paginator:
            paginator["more"] = list(signals.more[0])
        elif signals.last is not None:
            paginator["last"] = list(signals.last[0])
        return paginator, f"detected pagination by {found.description}"

    def page_strategy(self, found: DetectedPaginator) -> PageStrategy:
        """Return the strategy of a detected paginator, cached because the pages of a resource mostly share it."""
        key = orjson.dumps(found, option=orjson.OPT_SORT_KEYS)
        strategy = self._strategies.get(key)
        if strategy is None:
            if len(self._strategies) >= STRATEGIES_CACHED:
                self._strategies.clear()
            strategy = self._strategies[key] = build_strategy(found, self._filters_records)
        return strategy

    def total(self, fetched: FetchedPage) -> tuple[int | None, bool]:
        """Return the number of records in all, None if unknown; and whether the response states its end."""
        signals = signals_of(fetched.body, fetched.records or ())
        total = None if self._filters_records else total_of(fetched, signals)[0]
        return total, signals.ended or signals.has_more is False

    def _link(self, fetched: FetchedPage, signals: Signals) -> Detection | None:
        if link_target(fetched.page.header("link") or "", "next") is not None:
            return Detection({"type": "header_link"}, "the Link header (rel=next)")
        if signals.links:
            steps = signals.links[0]
            found: DetectedPaginator = {"type": "json_link", "path": list(steps)}
            base = (*steps[:-1], "base")
            link, base_url = resolve_path(fetched.body, steps), resolve_path(fetched.body, base)
            if str(base_url).startswith("http") and str(link).startswith("/"):
                found["base"] = list(base)  # Confluence: links are relative to the URL of the site
            return Detection(found, f"the link at {format_path(steps)}")
        for header in names.LINK_HEADERS:
            if names.looks_like_url(fetched.page.header(header)):
                return Detection({"type": "json_link", "header": header}, f"the link in the header {header}")
        return None

    def _cursor(self, fetched: FetchedPage, signals: Signals) -> Detection | None:
        if signals.has_more is False:
            return None
        for steps, known in signals.cursors:
            if not known.default:
                position = members_position(fetched)
                return Detection(
                    {"type": "cursor", "path": list(steps), "place": [position.kind, ""]},
                    f"the members of {format_path(steps)}, sent "
                    + ("in the body" if position.kind == "body" else "as parameters"),
                )
            default = known_param(fetched.body, steps)
            position = cursor_position_in(fetched, known._replace(default=default) if default else known)
            # A cursor equal to the one in the request is that of this page.
            if as_text(position.current(fetched.request)) != as_text(resolve_path(fetched.body, steps)):
                found: DetectedPaginator = {"path": list(steps)}
                if position.kind == "param" and normalize(position.name) in names.EXCLUSIVE_CURSORS:
                    found["exclusive"] = True
                return _cursor_found(found, position, format_path(steps))
        for steps, known in signals.objects:
            position = cursor_position_in(fetched, known)
            if position.kind == "body":
                return _cursor_found({"path": list(steps)}, position, format_path(steps))
        for header, known in names.CURSOR_HEADERS.items():
            if fetched.page.header(header):
                position = cursor_position_in(fetched, known)
                return _cursor_found({"header": header}, position, f"the header {header}")
        if signals.numbers:
            steps = signals.numbers[0]
            known = names.CursorName("page", tuple(normalize(name) for name in names.PAGE_PARAMS))
            position = cursor_position_in(fetched, known)
            return _cursor_found({"path": list(steps)}, position, format_path(steps))
        return (
            self._last_id(fetched, signals)
            or self._sort_values(fetched, signals)
            or self._unrecognized(fetched, signals)
        )

    def _sort_values(self, fetched: FetchedPage, signals: Signals) -> Detection | None:
        """Return the cursor of a sorted search of Elasticsearch: offsets would end at 10,000 records."""
        records, request = fetched.records or (), requested_body(fetched)
        if not is_elasticsearch(fetched.body) or "sort" not in request or "from" in request or not records:
            return None
        if signals.list_of is None or not isinstance(records[-1], Mapping) or not records[-1].get("sort"):
            return None
        steps = (*signals.list_of, -1, "sort")
        return _cursor_found({"path": list(steps)}, ParamPosition("body", "search_after"), format_path(steps))

    def _unrecognized(self, fetched: FetchedPage, signals: Signals) -> Detection | None:
        """Return the cursor at an unknown name `next_x` if the request already has `x` or `next_x`."""
        for steps in signals.unrecognized:
            name = normalize(str(steps[-1]))
            known = names.CursorName("", (name.removeprefix("next") or name, name))
            position = cursor_position_in(fetched, known)
            if position.name and position.current(fetched.request) is not None:
                return _cursor_found({"path": list(steps)}, position, format_path(steps))
        return None

    def _last_id(self, fetched: FetchedPage, signals: Signals) -> Detection | None:
        """Return the cursor of lists like Stripe's: `{object: list, has_more: true, data: [{id: …}]}`."""
        body, records = fetched.body, fetched.records or ()
        if not isinstance(body, Mapping) or body.get("object") != "list" or body.get("has_more") is not True:
            return None
        if not records or signals.list_of is None:
            return None
        if not isinstance(records[-1], Mapping) or "id" not in records[-1]:
            return None
        steps = (*signals.list_of, -1, "id")
        position = cursor_position_in(fetched, names.CursorName("starting_after", ("after",)))
        return _cursor_found({"path": list(steps)}, position, format_path(steps))

    def _numbers(self, fetched: FetchedPage, signals: Signals) -> Detection | None:
        if not fetched.count:
            return None
        roles = signals.roles
        own, pages = roles.get("own"), roles.get("pages")
        total, total_at = total_of(fetched, signals)
        page_position = numbered_position(fetched, names.PAGE_PARAMS)
        offset_position = numbered_position(fetched, names.OFFSET_PARAMS)
        pages_header = next(
            (name for name in names.PAGE_COUNT_HEADERS if header_number(fetched, name) is not None), ""
        )
        page_count = pages[1] if pages else header_number(fetched, pages_header) if pages_header else None
        # An offset counts in the request, or in the response beside a total, unless there is a page number, too.
        if offset_position and not page_position:
            return self._offset(fetched, offset_position, signals, total, total_at)
        if page_count is not None or (own is not None and (total is not None or signals.has_more)):
            return self._paged(fetched, signals, pages_header, page_count, page_position, total, total_at)
        if not page_position and "offset" in roles and (total is not None or signals.has_more):
            steps, _ = roles["offset"]
            name = known_param(fetched.body, steps) or str(steps[-1])
            position = cursor_position_in(fetched, names.CursorName(name))
            return self._offset(fetched, position, signals, total, total_at)
        if page_position is not None:
            return self._paged(fetched, signals, "", None, page_position, total, total_at)
        if total is not None and is_elasticsearch(fetched.body):
            position = cursor_position_in(fetched, names.CursorName("from"))
            return self._offset(fetched, position, signals, total, total_at)
        if signals.has_more or (total is not None and total > fetched.count):
            return self._partner(fetched, signals, total, total_at)
        return None

    def _partner(
        self, fetched: FetchedPage, signals: Signals, total: int | None, total_at: DetectedPaginator
    ) -> Detection | None:
        """Return the number or offset whose parameter usually goes with the page size in the request."""
        if signals.unrecognized:
            return None
        for size, partner in names.SIZE_PARAM_PARTNERS.items():
            for position in positions(fetched, (size,)):
                if looks_like_number(position.current(fetched.request)):
                    beside = ParamPosition(position.kind, position.name.replace(size, partner))
                    if partner in names.PAGE_PARAMS:
                        return self._paged(fetched, signals, "", None, beside, total, total_at)
                    return self._offset(fetched, beside, signals, total, total_at)
        return None

    def _paged(
        self,
        fetched: FetchedPage,
        signals: Signals,
        pages_header: str,
        page_count: int | None,
        position: ParamPosition | None,
        total: int | None,
        total_at: DetectedPaginator,
    ) -> Detection | None:
        own, pages, size = (signals.roles.get(role) for role in ("own", "pages", "size"))
        sent = as_number(position.current(fetched.request)) if position else None
        current = int(sent) if sent is not None else own[1] if own else 1
        # The first page's number: that of a response to a request without one; otherwise 0 if 0 was requested, else 1.
        base = current if sent is None else (0 if sent == 0 else 1)
        if base > 1:
            return None
        found: DetectedPaginator = {"type": "page_number", "base": base}
        if own and own[1] == current:
            found["own"] = list(own[0])
        if page_count is not None:
            if current + 1 >= base + page_count:
                return None
            if pages:
                found["pages"] = list(pages[0])
            else:
                found["pages_header"] = pages_header
            extent = f"{page_count} pages in total"
        elif total is not None:
            page_size = size[1] if size and size[1] and self._filters_records else fetched.count
            if current + 1 >= base + math.ceil(total / page_size):
                return None
            found = {**found, **total_at, "size": page_size}
            extent = f"{total} records in total"
        else:
            extent = "up to the first empty page"
        if position is None:
            key = str(own[0][-1]) if own else "page"
            is_param = normalize(key) in ("pagenumber", "pageno", "pagenum") and not is_spring(fetched.body)
            name = known_param(fetched.body, own[0] if own else ()) or (key if is_param else "page")
            known = names.CursorName(name, tuple(normalize(one) for one in names.PAGE_PARAMS))
            position = cursor_position_in(fetched, known)
        found["place"] = [position.kind, position.name]
        return Detection(found, f"page number, {describe_position(position)}, {extent}")

    def _offset(
        self,
        fetched: FetchedPage,
        position: ParamPosition,
        signals: Signals,
        total: int | None,
        total_at: DetectedPaginator,
    ) -> Detection | None:
        sent = as_number(position.current(fetched.request))
        own = signals.roles.get("offset")
        current = int(sent) if sent is not None else own[1] if own else 0
        if total is not None and current + fetched.count >= total + (1 if current == 1 else 0):
            return None
        if sent is None and current not in (0, 1):
            return None
        found: DetectedPaginator = {
            "type": "offset",
            "base": current if current == 1 else 0,
            "place": [position.kind, position.name],
        }
        size = signals.roles.get("size")
        if self._filters_records and size:
            found["limit"] = size[1]
        extent = f"{total} records in total" if total is not None else "up to the first empty page"
        return Detection({**found, **total_at}, f"offset, {describe_position(position)}, {extent}")

    def _why_not(self, fetched: FetchedPage, signals: Signals) -> str:
        total, _ = total_of(fetched, signals)
        pages = signals.roles.get("pages")
        if signals.has_more:
            flag = format_path((signals.more or signals.last or ((), True))[0])
            reason = f"{flag} reports more records"
        elif total is not None and total > fetched.count > 0 and not is_later(fetched, signals):
            reason = f"the response reports {total} records but has {fetched.count}"
        elif pages is not None and pages[1] > 1 and not is_later(fetched, signals):
            reason = f"the response reports {pages[1]} pages"
        elif (unknown := _unknown_form(signals)) and not signals.ended and signals.has_more is not False:
            reason = f"{format_path(unknown)} may point to a next page"
        elif mentions(fetched.page.header("link") or "", "next"):
            reason = "the Link header names a next page, but its link cannot be read"
        elif (
            _is_full(fetched)
            and total is None
            and pages is None
            and not signals.ended
            and signals.has_more is None
        ):
            return (
                f"the response has as many records as requested ({fetched.count}) and does not report whether "
                "more follow; set `paginator`, or `paginator: single_page` if these are all"
            )
        else:
            return ""
        return f"{reason}, but it is unknown how to request the next page; set `paginator`"


def states_end(fetched: FetchedPage, count: int | None) -> bool:
    """
    Return whether a page states, by a flag, a null or its numbers, that nothing follows it.

    Args:
        fetched: The page.
        count: The records of its pagination up to this page; None = unknown.
    """
    signals = signals_of(fetched.body, fetched.records or ())
    links = fetched.page.header("link") or ""
    signals.drop_truncation_flag()
    if signals.ended or signals.has_more is False:
        return True
    roles = {role: number for role, (_, number) in signals.roles.items()}
    total, _ = total_of(fetched, signals)
    if total == fetched.count and count is not None and count > fetched.count:
        total = None  # it is the number of records on this page
    return roles.get("remaining") == 0 or is_past_end(fetched.request.url, links, roles, total, count or 0)


def flag_of(fetched: FetchedPage) -> bool | None:
    """Return whether a flag beside the records says that more pages follow; None without a flag."""
    signals = signals_of(fetched.body, fetched.records or ())
    signals.drop_truncation_flag()
    return signals.has_more


def total_of(fetched: FetchedPage, signals: Signals) -> tuple[int | None, DetectedPaginator]:
    """Return the number of records in all, and where the response reports it."""
    if found := signals.roles.get("total"):
        return found[1], {"total": list(found[0])}
    if (found := signals.roles.get("count")) and found[1] > fetched.count:
        return found[1], {"total": list(found[0])}
    for header in (*names.TOTAL_HEADERS, "content-range"):
        number = header_number(fetched, header)
        if number is not None:
            return number, {"total_header": header}
    return None, {}


def is_later(fetched: FetchedPage, signals: Signals | None = None) -> bool:
    """Return whether the request, or what the response says about it, was for a page after the first one."""
    for known in (names.PAGE_PARAMS, names.OFFSET_PARAMS):
        position = numbered_position(fetched, known)
        if position is not None and (as_number(position.current(fetched.request)) or 0) > 1:
            return True
    own = signals.roles.get("own") if signals else None
    return own is not None and own[1] > 1


def _unknown_form(signals: Signals) -> Steps | None:
    """Return the path of a member that may lead on in a form that is not understood."""
    return next(iter([*signals.unrecognized, *(steps for steps, _ in signals.objects)]), None)


def _is_full(fetched: FetchedPage) -> bool:
    """Return whether the page has exactly the number of records requested; a request for one is deliberate."""
    sizes = (value for name, value in requested_values(fetched) if normalize(name) in names.SIZE_PARAMS)
    return fetched.count > 1 and any(as_number(value) == fetched.count for value in sizes)


def _cursor_found(source: DetectedPaginator, position: ParamPosition, where: str) -> Detection:
    found: DetectedPaginator = {"type": "cursor", **source, "place": [position.kind, position.name]}
    return Detection(found, f"the cursor at {where}, {describe_position(position)}")
