"""
A stand-in for Zendesk's API.

Documented behavior: the incremental export starts at `start_time` or continues from a `cursor` (never both), oldest
change first; every response has `after_cursor` and `after_url`, and the last one has `end_of_stream`; this route allows
10 requests a minute; comments are paginated by `page[size]`, `meta.has_more` and `links.next`; Basic auth uses
`EMAIL/token`.
"""

from __future__ import annotations

import base64
import re
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from standins.base import (
    ReceivedRequest,
    Standin,
    Window,
    decode_cursor,
    encode_cursor,
    parse_count,
    reply,
    stamp,
    unknown_parameters,
)

Record = dict[str, Any]
MAX_TICKETS, MAX_COMMENTS = 1000, 100
EXPORT = "/api/v2/incremental/tickets/cursor"


class Zendesk(Standin):
    """
    Tickets in the order of their last change, and their comments.

    Args:
        email, token: The valid credential.
        tickets: The number of tickets.
        max_tickets, max_comments: The maximum page sizes; small ones make little data behave like much.
        export_limit, account_limit: Requests per minute.
        minute_s: The length of a minute for the limits, in seconds.
    """

    def __init__(
        self,
        *,
        email: str = "agent@acme.test",
        token: str = "zd_secret",
        tickets: int = 30,
        max_tickets: int = MAX_TICKETS,
        max_comments: int = MAX_COMMENTS,
        export_limit: int = 10,
        account_limit: int = 400,
        minute_s: float = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.credential = f"{email}/token:{token}"
        self.max_tickets, self.max_comments = max_tickets, max_comments
        self.export, self.account = Window(export_limit, minute_s), Window(account_limit, minute_s)
        self.tickets: list[Record] = []  # in the order of their last change
        self.comments: dict[int, list[Record]] = {}
        self._changes = 0
        for _ in range(tickets):
            self.add()

    def add(self) -> Record:
        """Add a ticket with comments; every ninth is deleted, but is still exported."""
        number = len(self.comments) + 1
        status = "deleted" if number % 9 == 0 else "open"
        ticket: Record = {"id": number, "subject": f"Ticket {number}", "status": status, "priority": None}
        self.comments[number] = []
        self.tickets.append(ticket)
        for _ in range(number % 5):
            self.comment(number)
        self.change(ticket)
        return ticket

    def comment(self, number: int) -> Record:
        """Add a comment to a ticket."""
        thread = self.comments[number]
        comment = {
            "id": number * 100 + len(thread),
            "type": "Comment",
            "body": f"text {len(thread)}",
            "public": True,
        }
        thread.append(comment)
        return comment

    def change(self, ticket: Record) -> None:
        """Change a ticket, which moves it to the end of the export."""
        self._changes += 1
        at = self.newest - timedelta(days=2) + timedelta(minutes=self._changes)
        ticket |= {
            "updated_at": stamp(at),
            "generated_timestamp": int(at.timestamp()),
            "change": self._changes,
        }
        self.tickets.remove(ticket)
        self.tickets.append(ticket)

    def respond(self, request: ReceivedRequest) -> web.Response:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        try:
            known = kind == "Basic" and base64.b64decode(value).decode() == self.credential
        except ValueError:
            known = False
        if not known:
            return reply({"error": "Couldn't authenticate you"}, 401)
        exporting = request.path.removesuffix(".json") == EXPORT
        if not self.account.take() or (exporting and not self.export.take()):
            return self.refusal(request)
        response = self._export(request) if exporting else self._comments(request)
        response.headers["X-Rate-Limit"] = str(self.account.limit)
        response.headers["X-Rate-Limit-Remaining"] = str(self.account.remaining())
        response.headers["ratelimit-limit"] = str(self.account.limit)
        response.headers["ratelimit-remaining"] = str(self.account.remaining())
        response.headers["ratelimit-reset"] = str(int(self.account.left_s()) + 1)
        return response

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Refuse in plain text, with Retry-After."""
        request.refused = True
        spent = [window.left_s() for window in (self.export, self.account) if window.remaining() <= 0]
        text = "Number of allowed API requests per minute exceeded"
        return web.Response(status=429, text=text, headers={"Retry-After": str(int(max([0, *spent])) + 1)})

    def _export(self, request: ReceivedRequest) -> web.Response:
        unexpected = unknown_parameters(
            request, ("start_time", "cursor", "per_page", "include", "exclude_deleted")
        )
        start, cursor = request.get("start_time"), request.get("cursor")
        if unexpected or (start is None) == (cursor is None):
            return _error(400, "InvalidRequest", f"start_time or cursor, and {unexpected or 'nothing'} else")
        size = min(max(1, parse_count(request.get("per_page"), MAX_TICKETS)), self.max_tickets)
        if cursor is None:
            since = parse_count(start, 0)
            if since < 0:
                return _error(400, "InvalidValue", "start_time is not a Unix time")
            if since > time.time() - 60:
                return _error(
                    400, "StartTimeTooRecent", "Too recent start_time. Use one older than 60 seconds"
                )
            found = [one for one in self.tickets if one["generated_timestamp"] >= since]
            after = 0
        else:
            try:
                after = decode_cursor(cursor)["after"]
            except (ValueError, KeyError, TypeError):
                return _error(400, "InvalidCursor", "cursor is not valid")
            found = [one for one in self.tickets if one["change"] > after]
        page = [dict(one) for one in found[:size]]
        following = encode_cursor({"after": page[-1]["change"] if page else after})
        query = urlencode({"cursor": following, "per_page": size})
        return reply(
            {
                "tickets": page,
                "after_url": f"{self.url}{request.path}?{query}",
                "after_cursor": following,
                "before_url": None,
                "before_cursor": None,
                "end_of_stream": len(found) <= size,
            }
        )

    def _comments(self, request: ReceivedRequest) -> web.Response:
        one = re.fullmatch(r"/api/v2/tickets/(\d+)/comments(?:\.json)?", request.path)
        ticket = next((each for each in self.tickets if one and each["id"] == int(one[1])), None)
        if ticket is None or ticket["status"] == "deleted":
            return _error(404, "RecordNotFound", "Not found")
        if unknown_parameters(request, ("page[size]", "page[after]", "page[before]", "sort", "include")):
            return _error(400, "InvalidPaginationParameter", "unknown parameter")
        size = parse_count(request.get("page[size]"), MAX_COMMENTS)
        if not 1 <= size <= MAX_COMMENTS:
            return _error(400, "InvalidPaginationParameter", "page[size] must be between 1 and 100")
        size = min(size, self.max_comments)
        records = self.comments[ticket["id"]]
        start = decode_cursor(request.get("page[after]") or "")["at"] if request.get("page[after]") else 0
        end = start + size
        after = encode_cursor({"at": end})
        query = urlencode({"page[after]": after, "page[size]": size})
        meta = {
            "has_more": end < len(records),
            "after_cursor": after,
            "before_cursor": encode_cursor({"at": start}),
        }
        # The last page has a link, too: only `has_more` marks the end.
        links = {"next": f"{self.url}{request.path}?{query}", "prev": None}
        return reply({"comments": records[start:end], "meta": meta, "links": links})


def _error(status: int, kind: str, description: str) -> web.Response:
    return reply({"error": kind, "description": description}, status)
