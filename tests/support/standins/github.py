"""
A code host of the shape of GitHub's REST API.

Documented: at most 100 a page; links lead to `/repositories/ID/…`, not to the path that was asked; a search ends at
1,000 results (422 beyond); 304 for a known ETag, free of charge with a credential; 403 with `x-ratelimit-remaining: 0`
at the quota's end, and 403 or 429 with Retry-After for the secondary limit; no User-Agent is 403; 410 for the comments
of a deleted issue.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from standins.base import (
    Asked,
    Standin,
    Window,
    conditional,
    from_stamp,
    link_header,
    reply,
    stamp,
    whole,
)

Record = dict[str, Any]
REPOSITORIES = {"octocat/hello-world": 1296269, "acme/tools": 7654321}
MAX_PER_PAGE = 100
SEARCH_CAP = 1000


class GitHub(Standin):
    """
    Issues of two repositories, their comments, and a search.

    Args:
        tokens: The credentials that are known.
        issues: How many issues each repository has.
        max_per_page, search_cap: Smaller ones make small data behave like large.
        core, search: `(limit, seconds)` of the quotas of each token.
        fresh_s: For how long lists may be used without asking (Cache-Control).
    """

    def __init__(
        self,
        *,
        tokens: tuple[str, ...] = ("ghp_one", "ghp_two"),
        issues: int = 60,
        max_per_page: int = MAX_PER_PAGE,
        search_cap: int = SEARCH_CAP,
        core: tuple[int, float] = (5000, 3600.0),
        search: tuple[int, float] = (30, 60.0),
        fresh_s: int = 60,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.tokens, self.max_per_page, self.search_cap = tokens, max_per_page, search_cap
        self.fresh_s = fresh_s
        self.windows = {"core": Window(*core), "search": Window(*search)}
        self.issues: dict[str, list[Record]] = {}
        self.comments: dict[str, list[Record]] = {}  # by issue's API path
        self.gone: set[str] = set()
        for name in REPOSITORIES:
            self.issues[name] = []
            for number in range(1, issues + 1):
                self.add(name, number, self.newest - timedelta(hours=7 * (issues - number)))

    def add(self, name: str, number: int, at: datetime, comments: int | None = None) -> Record:
        """One more issue, with comments of its own."""
        path = f"/repos/{name}/issues/{number}"
        count = number % 4 * 3 if comments is None else comments
        record = {
            "id": REPOSITORIES[name] * 1000 + number,
            "node_id": f"I_{number}",
            "number": number,
            "title": f"Issue {number} – of {name}",
            "state": "closed" if number % 3 else "open",
            "user": {"login": f"user{number % 5}", "id": number % 5, "type": "User"},
            "labels": [{"id": 1, "name": "bug"}] if number % 2 else [],
            "comments": count,
            "created_at": stamp(at - timedelta(days=1)),
            "updated_at": stamp(at),
            "closed_at": None,
            "body": None if number % 7 == 0 else f"Text of {number}\r\n* with a list",
            "repository_url": f"/repos/{name}",
        }
        self.issues[name].append(record)
        self.comments[path] = []
        for place in range(count):
            self.comment(name, number, at - timedelta(minutes=count - place))
        record["updated_at"] = stamp(at)
        return record

    def comment(self, name: str, number: int, at: datetime) -> Record:
        """One more comment: the issue is touched by it."""
        path = f"/repos/{name}/issues/{number}"
        issue = self.issue(name, number)
        kept = self.comments[path]
        record = {
            "id": issue["id"] * 100 + len(kept),
            "issue_url": path,
            "user": {"login": "someone"},
            "created_at": stamp(at),
            "updated_at": stamp(at),
            "body": f"comment {len(kept)}",
        }
        kept.append(record)
        issue["comments"], issue["updated_at"] = len(kept), stamp(at)
        return record

    def issue(self, name: str, number: int) -> Record:
        """One issue."""
        return next(one for one in self.issues[name] if one["number"] == number)

    # answers

    def answer(self, asked: Asked) -> web.Response:
        token = asked.headers.get("authorization", "").removeprefix("Bearer ").removeprefix("token ")
        if "user-agent" not in asked.headers:
            return reply({"message": "Request forbidden by administrative rules."}, 403)
        if token not in self.tokens:
            return _message("Bad credentials", 401)
        kind = "search" if asked.path.startswith("/search/") else "core"
        window = self.windows[kind]
        granted = window.take(token)
        response = self._found(asked) if granted else self._spent()
        if response.status == 304:
            window.give_back(token)
        asked.refused = not granted
        response.headers.update(
            {
                "X-RateLimit-Limit": str(window.limit),
                "X-RateLimit-Remaining": str(max(0, window.remaining(token))),
                "X-RateLimit-Used": str(window.limit - window.remaining(token)),
                "X-RateLimit-Reset": str(int(time.time() + window.left_s(token)) + 1),
                "X-RateLimit-Resource": kind,
                "X-GitHub-Request-Id": f"{len(self.asked):04X}:1",
            }
        )
        return response

    def _spent(self) -> web.Response:
        return _message("API rate limit exceeded for user ID 1.", 403)

    def refusal(self, asked: Asked) -> web.Response:
        """The secondary limit, by turns as 403 and as 429."""
        status = 403 if len(self.asked) // self.refuse_every % 2 else 429
        text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        response = _message(text, status)
        response.headers["Retry-After"] = "1"
        return response

    def _found(self, asked: Asked) -> web.Response:
        if asked.method != "GET":
            return _message("Not Found", 404)
        if asked.path == "/search/issues":
            return self._search(asked)
        path = asked.path
        by_id = re.fullmatch(r"/repositories/(\d+)(/.*)", path)
        if by_id:
            names = {str(number): name for name, number in REPOSITORIES.items()}
            path = f"/repos/{names.get(by_id[1], '?')}{by_id[2]}"
        one = re.fullmatch(r"/repos/([^/]+/[^/]+)/issues(?:/(\d+)/comments)?", path)
        if not one or one[1] not in self.issues:
            return _message("Not Found", 404)
        name = one[1]
        if one[2]:
            own = f"/repos/{name}/issues/{one[2]}"
            if own in self.gone:
                return _message("This issue was deleted", 410)
            if own not in self.comments:
                return _message("Not Found", 404)
            return self._page(asked, name, list(self.comments[own]))
        state = asked.get("state") or "open"
        key = f"{asked.get('sort') or 'created'}_at"
        records = [record for record in self.issues[name] if state in ("all", record["state"])]
        if asked.get("since"):
            since = from_stamp(asked.get("since") or "")
            records = [record for record in records if from_stamp(record["updated_at"]) >= since]
        descending = (asked.get("direction") or "desc") == "desc"
        records.sort(key=lambda record: (record[key], record["number"]), reverse=descending)
        return self._page(asked, name, records)

    def _page(self, asked: Asked, name: str, records: list[Record]) -> web.Response:
        start, size, page = self._bounds(asked)
        response = reply(records[start : start + size])
        path = "/issues" + asked.path.partition("/issues")[2]
        self._link(asked, response, f"/repositories/{REPOSITORIES[name]}{path}", page, len(records), size)
        response.headers["Cache-Control"] = f"private, max-age={self.fresh_s}, s-maxage={self.fresh_s}"
        return conditional(asked, response)

    def _bounds(self, asked: Asked) -> tuple[int, int, int]:
        size = min(max(1, whole(asked.get("per_page"), 30)), self.max_per_page)
        page = max(1, whole(asked.get("page"), 1))
        return (page - 1) * size, size, page

    def _link(
        self, asked: Asked, response: web.Response, path: str, page: int, total: int, size: int
    ) -> None:
        last = max(1, -(-total // size))
        to = {"prev": page - 1, "first": 1} if page > 1 else {}
        if page < last:
            to |= {"next": page + 1, "last": last}
        links = []
        for rel, number in to.items():
            query = {**dict(asked.query), "page": str(number)}
            links.append((rel, f"{self.url}{path}?{urlencode(query)}"))
        if links:
            response.headers["Link"] = link_header(links)

    def _search(self, asked: Asked) -> web.Response:
        """Qualifiers `label:` and `created:A..B` (whole days); the rest of a query is not read."""
        terms = dict(term.partition(":")[::2] for term in (asked.get("q") or "").split())
        if not terms:
            return _message("Validation Failed", 422)
        first, _, last = terms.get("created", "1970-01-01..2999-12-31").partition("..")
        try:
            low, high = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (first, last))
        except ValueError:
            return _message("Validation Failed", 422)
        label = terms.get("label")
        found = [
            record
            for records in self.issues.values()
            for record in records
            if (label is None or label in [one["name"] for one in record["labels"]])
            and low <= from_stamp(record["created_at"]) < high + timedelta(days=1)
        ]
        found.sort(
            key=lambda record: (record["created_at"], record["id"]), reverse=asked.get("order") != "asc"
        )
        start, size, page = self._bounds(asked)
        if start >= self.search_cap:
            return _message("Only the first 1000 search results are available", 422)
        reachable = found[: self.search_cap]
        items = [{**record, "score": 1.0} for record in reachable[start : start + size]]
        response = reply({"total_count": len(found), "incomplete_results": False, "items": items})
        self._link(asked, response, "/search/issues", page, len(reachable), size)
        return response


def _message(text: str, status: int) -> web.Response:
    body = {"message": text, "documentation_url": "https://docs.test/rest", "status": str(status)}
    return reply(body, status)
