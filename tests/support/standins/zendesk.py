"""
A help desk of the shape of Zendesk's API.

Documented: the incremental export begins at `start_time` (or goes on from a `cursor`, never both), oldest change first,
tells `after_cursor` and `after_url` in every answer, also in the last one, which says `end_of_stream`; 10 a minute on
that route; comments come by `page[size]` with `meta.has_more` and `links.next`; Basic auth with `EMAIL/token`.
"""

from __future__ import annotations

import base64
import re
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from standins.base import Asked, Standin, Window, opaque, opened, reply, stamp, unknown, whole

Record = dict[str, Any]
MAX_TICKETS, MAX_COMMENTS = 1000, 100
EXPORT = "/api/v2/incremental/tickets/cursor"


class Zendesk(Standin):
    """
    Tickets by their last change, and their comments.

    Args:
        email, token: The credential that is known.
        tickets: How many there are.
        max_tickets, max_comments: The most of a page: smaller ones make small data behave like large.
        export_limit, account_limit: Requests of a minute.
        minute_s: What a minute lasts.
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
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.credential = f"{email}/token:{token}"
        self.max_tickets, self.max_comments = max_tickets, max_comments
        self.export, self.account = Window(export_limit, minute_s), Window(account_limit, minute_s)
        self.tickets: list[Record] = []  # by their last change
        self.comments: dict[int, list[Record]] = {}
        self._changes = 0
        for _ in range(tickets):
            self.add()

    def add(self) -> Record:
        """One more ticket, with comments; each ninth was deleted, and is told of all the same."""
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
        """One more comment on a ticket."""
        kept = self.comments[number]
        comment = {
            "id": number * 100 + len(kept),
            "type": "Comment",
            "body": f"text {len(kept)}",
            "public": True,
        }
        kept.append(comment)
        return comment

    def change(self, ticket: Record) -> None:
        """The ticket changes: the export tells of it once more, at its end."""
        self._changes += 1
        at = self.newest - timedelta(days=2) + timedelta(minutes=self._changes)
        ticket |= {
            "updated_at": stamp(at),
            "generated_timestamp": int(at.timestamp()),
            "change": self._changes,
        }
        self.tickets.remove(ticket)
        self.tickets.append(ticket)

    def answer(self, asked: Asked) -> web.Response:
        kind, _, value = asked.headers.get("authorization", "").partition(" ")
        try:
            known = kind == "Basic" and base64.b64decode(value).decode() == self.credential
        except ValueError:
            known = False
        if not known:
            return reply({"error": "Couldn't authenticate you"}, 401)
        exporting = asked.path.removesuffix(".json") == EXPORT
        if not self.account.take() or (exporting and not self.export.take()):
            return self.refusal(asked)
        response = self._export(asked) if exporting else self._comments(asked)
        response.headers["X-Rate-Limit"] = str(self.account.limit)
        response.headers["X-Rate-Limit-Remaining"] = str(self.account.remaining())
        response.headers["ratelimit-limit"] = str(self.account.limit)
        response.headers["ratelimit-remaining"] = str(self.account.remaining())
        response.headers["ratelimit-reset"] = str(int(self.account.left_s()) + 1)
        return response

    def refusal(self, asked: Asked) -> web.Response:
        """Plain text, with the time."""
        asked.refused = True
        spent = [window.left_s() for window in (self.export, self.account) if window.remaining() <= 0]
        text = "Number of allowed API requests per minute exceeded"
        return web.Response(status=429, text=text, headers={"Retry-After": str(int(max([0, *spent])) + 1)})

    def _export(self, asked: Asked) -> web.Response:
        strange = unknown(asked, ("start_time", "cursor", "per_page", "include", "exclude_deleted"))
        start, cursor = asked.get("start_time"), asked.get("cursor")
        if strange or (start is None) == (cursor is None):
            return _error(400, "InvalidRequest", f"start_time or cursor, and {strange or 'nothing'} else")
        size = min(max(1, whole(asked.get("per_page"), MAX_TICKETS)), self.max_tickets)
        if cursor is None:
            since = whole(start, 0)
            if since < 0:
                return _error(400, "InvalidValue", "start_time is no Unix time")
            if since > time.time() - 60:
                return _error(
                    400, "StartTimeTooRecent", "Too recent start_time. Use one older than 60 seconds"
                )
            found = [one for one in self.tickets if one["generated_timestamp"] >= since]
            after = 0
        else:
            try:
                after = opened(cursor)["after"]
            except (ValueError, KeyError, TypeError):
                return _error(400, "InvalidCursor", "cursor is not valid")
            found = [one for one in self.tickets if one["change"] > after]
        page = [dict(one) for one in found[:size]]
        following = opaque({"after": page[-1]["change"] if page else after})
        query = urlencode({"cursor": following, "per_page": size})
        return reply(
            {
                "tickets": page,
                "after_url": f"{self.url}{asked.path}?{query}",
                "after_cursor": following,
                "before_url": None,
                "before_cursor": None,
                "end_of_stream": len(found) <= size,
            }
        )

    def _comments(self, asked: Asked) -> web.Response:
        one = re.fullmatch(r"/api/v2/tickets/(\d+)/comments(?:\.json)?", asked.path)
        ticket = next((each for each in self.tickets if one and each["id"] == int(one[1])), None)
        if ticket is None or ticket["status"] == "deleted":
            return _error(404, "RecordNotFound", "Not found")
        if unknown(asked, ("page[size]", "page[after]", "page[before]", "sort", "include")):
            return _error(400, "InvalidPaginationParameter", "a parameter is not known")
        size = whole(asked.get("page[size]"), MAX_COMMENTS)
        if not 1 <= size <= MAX_COMMENTS:
            return _error(400, "InvalidPaginationParameter", "page[size] must be between 1 and 100")
        size = min(size, self.max_comments)
        records = self.comments[ticket["id"]]
        start = opened(asked.get("page[after]") or "")["at"] if asked.get("page[after]") else 0
        end = start + size
        after = opaque({"at": end})
        query = urlencode({"page[after]": after, "page[size]": size})
        meta = {"has_more": end < len(records), "after_cursor": after, "before_cursor": opaque({"at": start})}
        # the link is there at the end, too: only `has_more` says that it leads nowhere
        links = {"next": f"{self.url}{asked.path}?{query}", "prev": None}
        return reply({"comments": records[start:end], "meta": meta, "links": links})


def _error(status: int, kind: str, description: str) -> web.Response:
    return reply({"error": kind, "description": description}, status)
