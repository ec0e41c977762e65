"""
A stand-in for the Crossref REST API.

Documented behavior: `cursor=*` starts a page sequence; each response has a `next-cursor`, even after the end, where
`items` is empty; at most 1,000 rows; an unknown parameter or filter is a 400 that names it; every response reports the
limits, which are higher with a `mailto`; an unknown ISSN is a 404 in plain text.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import (
    ReceivedRequest,
    Standin,
    Window,
    decode_cursor,
    encode_cursor,
    from_stamp,
    parse_count,
    reply,
    stamp,
    unknown_parameters,
)

Record = dict[str, Any]
MAX_ROWS = 1000
KNOWN = (
    "rows",
    "cursor",
    "sort",
    "order",
    "mailto",
    "filter",
    "select",
    "query",
    "offset",
    "sample",
    "facet",
)
FILTERS = ("from-index-date", "until-index-date", "from-pub-date", "type")


class Crossref(Standin):
    """
    Works of journals.

    Args:
        works: The number of works of each ISSN.
        polite, public: Requests per second with and without a `mailto`.
        concurrency: The maximum number of requests in flight; others are refused.
    """

    def __init__(
        self,
        *,
        works: dict[str, int] | None = None,
        polite: int = 50,
        public: int = 5,
        concurrency: int = 3,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.works: dict[str, list[Record]] = {}
        self.concurrency = concurrency
        self._limits = {True: Window(polite, 1.0), False: Window(public, 1.0)}
        for issn, count in (works or {"1476-4687": 1250, "0028-0836": 1000}).items():
            self.works[issn] = []
            for _ in range(count):
                self.add(issn)
            for index, work in enumerate(self.works[issn]):
                self.index(work, minutes_ago=20 * (count - index))

    def add(self, issn: str) -> Record:
        """Add a work indexed at `newest`; its DOI has characters that scrapers must preserve."""
        number = len(self.works[issn]) + 1
        doi = f"10.1038/s{issn[-4:]}-{number:05d}<{number % 7}>#x"
        work: Record = {"DOI": doi, "ISSN": [issn], "type": "journal-article", "title": [f"Work {number} ü"]}
        work |= {"is-referenced-by-count": number % 50, "publisher": None}
        self.works[issn].append(work)
        self.index(work, minutes_ago=0)
        return work

    def index(self, work: Record, minutes_ago: float) -> None:
        """Set the time at which a work was last indexed, in minutes before `newest`."""
        at = self.newest - timedelta(minutes=minutes_ago)
        work["indexed"] = {
            "date-parts": [[at.year, at.month, at.day]],
            "date-time": stamp(at),
            "timestamp": int(at.timestamp() * 1000),
            "version": "3.41.4",
        }

    def respond(self, request: ReceivedRequest) -> web.Response:
        polite = "mailto" in f"{request.get('mailto') and 'mailto'} {request.headers.get('user-agent', '')}"
        window = self._limits[polite]
        request.refused = self.in_flight > self.concurrency or not window.take()
        response = self.refusal(request) if request.refused else self._resource(request)
        response.headers["X-Rate-Limit-Limit"] = str(window.limit)
        response.headers["X-Rate-Limit-Interval"] = "1s"
        response.headers["X-Concurrency-Limit"] = str(self.concurrency)
        response.headers["X-API-Pool"] = "polite-array" if polite else "public"
        return response

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Refuse in plain text, without Retry-After."""
        return web.Response(status=429, text="Too many requests. Please slow down.")

    def _resource(self, request: ReceivedRequest) -> web.Response:
        one = re.fullmatch(r"/journals/([\dX-]+)/works", request.path)
        if not one or one[1] not in self.works:
            return web.Response(status=404, text="Resource not found.")
        unexpected = unknown_parameters(request, KNOWN)
        if unexpected:
            return _validation_failure(
                "unknown-parameter", unexpected[0], f"Parameter {unexpected[0]} specified is unknown"
            )
        rows = parse_count(request.get("rows"), 20)
        if not 0 <= rows <= MAX_ROWS:
            return _validation_failure("integer-not-valid", str(request.get("rows")), "rows: 0 to 1000")
        if request.get("cursor") and (request.get("offset") or request.get("sample")):
            return _validation_failure(
                "parameter-not-allowed", "cursor", "cursor cannot be combined with offset or sample"
            )
        try:
            records = self._filtered(one[1], request.get("filter"))
        except ValueError as error:
            return _validation_failure(
                "filter-not-available", str(error), f"Filter {error} specified but there is none"
            )
        if request.get("sort") == "indexed":
            records.sort(
                key=lambda work: (work["indexed"]["timestamp"], work["DOI"]),
                reverse=request.get("order") != "asc",
            )
        start = 0
        cursor = request.get("cursor")
        if cursor and cursor != "*":
            try:
                start = decode_cursor(cursor)["at"]
            except (ValueError, KeyError, TypeError):
                return _validation_failure("cursor-not-valid", cursor, "cursor is not valid")
        page = records[start : start + rows]
        message = {
            "facets": {},
            "total-results": len(records),
            "items": page,
            "items-per-page": rows,
            "query": {"start-index": 0, "search-terms": None},
        }
        if cursor:
            message["next-cursor"] = encode_cursor({"at": start + rows, "scroll": "DnF1ZXJ5/+=="})
        return reply(
            {"status": "ok", "message-type": "work-list", "message-version": "1.0.0", "message": message}
        )

    def _filtered(self, issn: str, text: str | None) -> list[Record]:
        records = list(self.works[issn])
        for term in (text or "").split(","):
            name, _, value = term.partition(":")
            if name and name not in FILTERS:
                raise ValueError(name)
            if name == "from-index-date":
                since = from_stamp(value)
                records = [work for work in records if from_stamp(work["indexed"]["date-time"]) >= since]
        return records


def _validation_failure(kind: str, value: str, message: str) -> web.Response:
    detail = [{"type": kind, "value": value, "message": message}]
    return reply({"status": "failed", "message-type": "validation-failure", "message": detail}, 400)
