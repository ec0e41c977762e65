"""
`auto`: which paginator an answer speaks of.

Links before cursors, cursors before numbers. What was found on the first page is plain JSON, which the payload keeps
for the pages that follow; nothing is guessed again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

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
    numbered_position,
    positions,
)
from scrapeq.extract.autodetect.signals import (
    Signals,
    format_path,
    looks_like_number,
    resolve_path,
    signals_of,
)
from scrapeq.extract.known_names import normalize
from scrapeq.extract.link_header import link_target
from scrapeq.extract.paginators import (
    FetchedPage,
    PageStrategy,
)
from scrapeq.resource.next_request import ParamPosition

Found = dict[str, Any]
"""A paginator as the payload keeps it: `type`, and what its kind needs."""


class Detector:
    """
    Finds the paginator of a first answer, and makes it of what was found.

    Args:
        selector: The data_selector; one with a filter says nothing about a page's size.
    """

    def __init__(self, selector: str) -> None:
        self._filters_records = "[?" in selector
        self._strategies: dict[bytes, PageStrategy] = {}

    def find(self, fetched: FetchedPage) -> tuple[Found | None, str]:
        """
        What leads on from a first page, and a line about it.

        Returns:
            (None, "") where the answer is whole; (None, why) where it seems not to be.
        """
        records = fetched.records or ()
        signals = signals_of(fetched.body, records)
        if link_target(fetched.page.header("link") or "", "next") is not None or signals.links:
            signals.drop_truncation_flag()
        links = fetched.page.header("link") or ""
        signals.ended = signals.ended or any(link_target(links, rel) for rel in ("first", "prev", "last"))
        found = self._link(fetched, signals) or self._cursor(fetched, signals)
        if found is None and not signals.ended and signals.has_more is not False:
            found = self._numbers(fetched, signals)
        if found is not None:
            if signals.more is not None and "more" not in found:
                found["more"] = list(signals.more[0])
            elif signals.last is not None:
                found["last"] = list(signals.last[0])
            return found, f"the next page is found by {found.pop('by')}"
        return None, self._why_not(fetched, signals)

    def page_strategy(self, found: Mapping[str, Any]) -> PageStrategy:
        """The paginator that was found; kept, since many walks of a resource go the same way."""
        key = orjson.dumps(found, option=orjson.OPT_SORT_KEYS)
        strategy = self._strategies.get(key)
        if strategy is None:
            if len(self._strategies) >= 100:
                self._strategies.clear()
            strategy = self._strategies[key] = build_strategy(found, self._filters_records)
        return strategy

    def _link(self, fetched: FetchedPage, signals: Signals) -> Found | None:
        if link_target(fetched.page.header("link") or "", "next") is not None:
            return {"type": "header_link", "by": "the Link header (rel=next)"}
        if signals.links:
            steps = signals.links[0]
            found: Found = {
                "type": "json_link",
                "path": list(steps),
                "by": f"the link at {format_path(steps)}",
            }
            base = (*steps[:-1], "base")
            if str(resolve_path(fetched.body, base)).startswith("http") and str(
                resolve_path(fetched.body, steps)
            ).startswith("/"):
                found["base"] = list(base)  # Confluence: links begin below the address of the site
            return found
        for header in names.LINK_HEADERS:
            if names.looks_like_address(fetched.page.header(header)):
                return {"type": "json_link", "header": header, "by": f"the link in the header {header}"}
        return None

    def _cursor(self, fetched: FetchedPage, signals: Signals) -> Found | None:
        if signals.has_more is False:
            return None
        for steps, known in signals.cursors:
            if not known.default:
                return {
                    "type": "cursor",
                    "path": list(steps),
                    "place": ["param", ""],
                    "by": f"the members of {format_path(steps)}, which become parameters",
                }
            default = known_param(fetched.body, steps)
            position = cursor_position_in(fetched, known._replace(default=default) if default else known)
            if as_text(position.current(fetched.request)) != as_text(
                resolve_path(fetched.body, steps)
            ):  # else it is what was sent
                return _cursor_found({"path": list(steps)}, position, format_path(steps))
        for header, known in names.CURSOR_HEADERS.items():
            if fetched.page.header(header):
                return _cursor_found(
                    {"header": header}, cursor_position_in(fetched, known), f"the header {header}"
                )
        if signals.numbers:
            steps = signals.numbers[0]
            known = names.CursorName("page", tuple(normalize(name) for name in names.PAGE_PARAMS))
            return _cursor_found(
                {"path": list(steps)}, cursor_position_in(fetched, known), format_path(steps)
            )
        return self._last_id(fetched, signals) or self._unclear(fetched, signals)

    def _unclear(self, fetched: FetchedPage, signals: Signals) -> Found | None:
        """`next_x`, whatever it is, where the request has `x` or `next_x` already."""
        for steps in signals.unrecognized:
            kind = normalize(str(steps[-1]))
            known = names.CursorName("", (kind.removeprefix("next") or kind, kind))
            position = cursor_position_in(fetched, known)
            if position.name and position.current(fetched.request) is not None:
                return _cursor_found({"path": list(steps)}, position, format_path(steps))
        return None

    def _last_id(self, fetched: FetchedPage, signals: Signals) -> Found | None:
        """Lists in the manner of Stripe: `{object: list, has_more: true, data: [{id: …}]}`."""
        body, records = fetched.body, fetched.records or ()
        if not isinstance(body, Mapping) or body.get("object") != "list" or body.get("has_more") is not True:
            return None
        if (
            not records
            or signals.list_of is None
            or not isinstance(records[-1], Mapping)
            or "id" not in records[-1]
        ):
            return None
        steps = (*signals.list_of, -1, "id")
        position = cursor_position_in(fetched, names.CursorName("starting_after", ("after",)))
        return _cursor_found({"path": list(steps)}, position, format_path(steps))

    def _numbers(self, fetched: FetchedPage, signals: Signals) -> Found | None:
        if not fetched.count:
            return None
        roles = signals.roles
        own, pages = roles.get("own"), roles.get("pages")
        total, total_at = _total_of(fetched, signals)
        page_position, offset_position = (
            numbered_position(fetched, names.PAGE_PARAMS),
            numbered_position(fetched, names.OFFSET_PARAMS),
        )
        pages_header = next(
            (name for name in names.PAGE_COUNT_HEADERS if header_number(fetched, name) is not None), ""
        )
        page_count = pages[1] if pages else header_number(fetched, pages_header) if pages_header else None
        # An offset in the request, or in the answer beside a total, unless a page's number stands there, too.
        if offset_position and not page_position:
            return self._offset(fetched, offset_position, signals, total, total_at)
        if page_count is not None or (own is not None and (total is not None or signals.has_more)):
            return self._paged(fetched, signals, pages_header, page_count, page_position, total, total_at)
        if not page_position and "offset" in roles and (total is not None or signals.has_more):
            steps, _ = roles["offset"]
            name = str(steps[-1])
            name = known_param(fetched.body, steps) or name
            return self._offset(
                fetched, cursor_position_in(fetched, names.CursorName(name)), signals, total, total_at
            )
        if page_position is not None:
            return self._paged(fetched, signals, "", None, page_position, total, total_at)
        if total is not None and is_elasticsearch(fetched.body):
            return self._offset(
                fetched, cursor_position_in(fetched, names.CursorName("from")), signals, total, total_at
            )
        if signals.has_more or (total is not None and total > fetched.count):
            return self._partner(fetched, signals, total, total_at)
        return None

    def _partner(
        self, fetched: FetchedPage, signals: Signals, total: int | None, total_at: Found
    ) -> Found | None:
        """The request says how large a page is: what goes together with that, says where it begins."""
        if signals.unrecognized:
            return None
        for size, partner in names.SIZE_PARAM_PARTNERS.items():
            for position in positions(fetched, (size,)):
                if looks_like_number(position.current(fetched.request)):
                    where = ParamPosition(position.kind, position.name.replace(size, partner))
                    if partner in names.PAGE_PARAMS:
                        return self._paged(fetched, signals, "", None, where, total, total_at)
                    return self._offset(fetched, where, signals, total, total_at)
        return None

    def _paged(
        self,
        fetched: FetchedPage,
        signals: Signals,
        pages_header: str,
        page_count: int | None,
        position: ParamPosition | None,
        total: int | None,
        total_at: Found,
    ) -> Found | None:
        own, pages, size = (signals.roles.get(role) for role in ("own", "pages", "size"))
        sent = as_number(position.current(fetched.request)) if position else None
        here = int(sent) if sent is not None else own[1] if own else 1
        # The first page's number: the one that comes when none is asked for; else 0 where 0 was asked for.
        base = here if sent is None else (0 if sent == 0 else 1)
        if base > 1:
            return None
        found: Found = {"type": "page_number", "base": base}
        if own and own[1] == here:
            found["own"] = list(own[0])
        if page_count is not None:
            if here + 1 >= base + page_count:
                return None
            found |= {"pages": list(pages[0])} if pages else {"pages_header": pages_header}
            how = f", {page_count} in all"
        elif total is not None:
            each = size[1] if size and size[1] and self._filters_records else fetched.count
            if here + 1 >= base + math.ceil(total / each):
                return None
            found |= {**total_at, "size": each}
            how = f", {total} records in all"
        else:
            how = ", until one is empty"
        if position is None:
            key = str(own[0][-1]) if own else "page"
            numbered = normalize(key) in ("pagenumber", "pageno", "pagenum") and not is_spring(fetched.body)
            name = known_param(fetched.body, own[0] if own else ()) or (key if numbered else "page")
            position = cursor_position_in(
                fetched, names.CursorName(name, tuple(normalize(one) for one in names.PAGE_PARAMS))
            )
        return {
            **found,
            "place": [position.kind, position.name],
            "by": f"the page's number, {describe_position(position)}{how}",
        }

    def _offset(
        self,
        fetched: FetchedPage,
        position: ParamPosition,
        signals: Signals,
        total: int | None,
        total_at: Found,
    ) -> Found | None:
        sent = as_number(position.current(fetched.request))
        own = signals.roles.get("offset")
        here = int(sent) if sent is not None else own[1] if own else 0
        if total is not None and here + fetched.count >= total + (1 if here == 1 else 0):
            return None
        found: Found = {
            "type": "offset",
            "base": here if here == 1 else 0,
            "place": [position.kind, position.name],
        }
        if sent is None and here not in (0, 1):
            return None
        size = signals.roles.get("size")
        if self._filters_records and size:
            found["limit"] = size[1]
        how = f", {total} records in all" if total is not None else ", until a page is empty"
        return {**found, **total_at, "by": f"the offset, {describe_position(position)}{how}"}

    def _why_not(self, fetched: FetchedPage, signals: Signals) -> str:
        total, _ = _total_of(fetched, signals)
        pages = signals.roles.get("pages")
        if signals.has_more:
            flag = format_path((signals.more or signals.last or ((), True))[0])
            said = f"{flag} says that there is more"
        elif total is not None and total > fetched.count > 0 and not _is_later(fetched, signals):
            said = f"the answer speaks of {total} records and has {fetched.count}"
        elif pages is not None and pages[1] > 1 and not _is_later(fetched, signals):
            said = f"the answer speaks of {pages[1]} pages"
        elif signals.unrecognized and not signals.ended and signals.has_more is not False:
            said = f"{format_path(signals.unrecognized[0])} seems to lead on"
        elif (
            _is_full(fetched)
            and total is None
            and pages is None
            and not signals.ended
            and signals.has_more is None
        ):
            said = f"the answer has as many records as were asked for ({fetched.count})"
            return f"{said}, and does not say whether there are more; name a paginator, or single_page"
        else:
            return ""
        return f"{said}, but not how to ask for it; name a paginator"


def _total_of(fetched: FetchedPage, signals: Signals) -> tuple[int | None, Found]:
    """How many records there are in all, and where that is said."""
    if found := signals.roles.get("total"):
        return found[1], {"total": list(found[0])}
    if (found := signals.roles.get("count")) and found[1] > fetched.count:
        return found[1], {"total": list(found[0])}
    for header in (*names.TOTAL_HEADERS, "content-range"):
        number = header_number(fetched, header)
        if number is not None:
            return number, {"total_header": header}
    return None, {}


def _is_later(fetched: FetchedPage, signals: Signals) -> bool:
    """Whether the request asked for a page behind the first one."""
    for position in (
        numbered_position(fetched, names.PAGE_PARAMS),
        numbered_position(fetched, names.OFFSET_PARAMS),
    ):
        if position is not None and (as_number(position.current(fetched.request)) or 0) > 1:
            return True
    own = signals.roles.get("own")
    return own is not None and own[1] > 1


def _is_full(fetched: FetchedPage) -> bool:
    """Whether the request asked for just so many records; one alone is mostly meant."""
    for name, value in parse_qsl(urlsplit(fetched.request.url).query):
        if normalize(name) in names.SIZE_PARAMS and value.isdecimal() and int(value) == fetched.count > 1:
            return True
    return False


def _cursor_found(source: Found, position: ParamPosition, where: str) -> Found:
    return {
        "type": "cursor",
        **source,
        "place": [position.kind, position.name],
        "by": f"the cursor at {where}, {describe_position(position)}",
    }
