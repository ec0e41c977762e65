"""
Scholarly works of the shape of the Crossref REST API.

Documented: `cursor=*` begins a walk, each answer has a `next-cursor`, also after the end, where `items` is empty; at
most 1,000 rows; an unknown parameter or filter is a 400 that names it; the limits are told in every answer and are
higher with a `mailto`; an unknown ISSN is a 404 in plain text.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import Asked, Standin, Window, from_stamp, opaque, opened, reply, stamp, unknown, whole

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
        works: How many works each ISSN has.
        polite, public: Requests a second with and without a `mailto`.
        most_at_once: More requests than that in flight are refused.
    """

    def __init__(
        self,
        *,
        works: dict[str, int] | None = None,
        polite: int = 50,
        public: int = 5,
        most_at_once: int = 3,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.works: dict[str, list[Record]] = {}
        self.most_at_once = most_at_once
        self._limits = {True: Window(polite, 1.0), False: Window(public, 1.0)}
        for issn, count in (works or {"1476-4687": 1250, "0028-0836": 1000}).items():
            self.works[issn] = []
            for _ in range(count):
                self.add(issn)
            for place, work in enumerate(self.works[issn]):
                self.index(work, minutes_ago=20 * (count - place))

    def add(self, issn: str) -> Record:
        """One more work, indexed at `newest`; its DOI has characters that must be kept as they are."""
        number = len(self.works[issn]) + 1
        doi = f"10.1038/s{issn[-4:]}-{number:05d}<{number % 7}>#x"
        work: Record = {"DOI": doi, "ISSN": [issn], "type": "journal-article", "title": [f"Work {number} ü"]}
        work |= {"is-referenced-by-count": number % 50, "publisher": None}
        self.works[issn].append(work)
        self.index(work, minutes_ago=0)
        return work

    def index(self, work: Record, minutes_ago: float) -> None:
        """It was indexed again, so long before `newest`."""
        at = self.newest - timedelta(minutes=minutes_ago)
        work["indexed"] = {
            "date-parts": [[at.year, at.month, at.day]],
            "date-time": stamp(at),
            "timestamp": int(at.timestamp() * 1000),
            "version": "3.41.4",
        }

    def answer(self, asked: Asked) -> web.Response:
        polite = "mailto" in f"{asked.get('mailto') and 'mailto'} {asked.headers.get('user-agent', '')}"
        window = self._limits[polite]
        asked.refused = self.in_flight > self.most_at_once or not window.take()
        response = self.refusal(asked) if asked.refused else self._found(asked)
        response.headers["X-Rate-Limit-Limit"] = str(window.limit)
        response.headers["X-Rate-Limit-Interval"] = "1s"
        response.headers["X-Concurrency-Limit"] = str(self.most_at_once)
        response.headers["X-API-Pool"] = "polite-array" if polite else "public"
        return response

    def refusal(self, asked: Asked) -> web.Response:
        """Plain text, and no Retry-After."""
        return web.Response(status=429, text="Too many requests. Please slow down.")

    def _found(self, asked: Asked) -> web.Response:
        one = re.fullmatch(r"/journals/([\dX-]+)/works", asked.path)
        if not one or one[1] not in self.works:
            return web.Response(status=404, text="Resource not found.")
        strange = unknown(asked, KNOWN)
        if strange:
            return _refused("unknown-parameter", strange[0], f"Parameter {strange[0]} specified is unknown")
        rows = whole(asked.get("rows"), 20)
        if not 0 <= rows <= MAX_ROWS:
            return _refused("integer-not-valid", str(asked.get("rows")), "rows: 0 to 1000")
        if asked.get("cursor") and (asked.get("offset") or asked.get("sample")):
            return _refused(
                "parameter-not-allowed", "cursor", "cursor cannot be combined with offset or sample"
            )
        try:
            records = self._filtered(one[1], asked.get("filter"))
        except ValueError as error:
            return _refused("filter-not-available", str(error), f"Filter {error} specified but there is none")
        if asked.get("sort") == "indexed":
            records.sort(
                key=lambda work: (work["indexed"]["timestamp"], work["DOI"]),
                reverse=asked.get("order") != "asc",
            )
        start = 0
        cursor = asked.get("cursor")
        if cursor and cursor != "*":
            try:
                start = opened(cursor)["at"]
            except (ValueError, KeyError, TypeError):
                return _refused("cursor-not-valid", cursor, "cursor is not valid")
        page = records[start : start + rows]
        message = {
            "facets": {},
            "total-results": len(records),
            "items": page,
            "items-per-page": rows,
            "query": {"start-index": 0, "search-terms": None},
        }
        if cursor:
            message["next-cursor"] = opaque({"at": start + rows, "scroll": "DnF1ZXJ5/+=="})
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


def _refused(kind: str, value: str, message: str) -> web.Response:
    detail = [{"type": kind, "value": value, "message": message}]
    return reply({"status": "failed", "message-type": "validation-failure", "message": detail}, 400)
