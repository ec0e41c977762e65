"""
A stand-in for GitHub's REST API.

Documented behavior: at most 100 records a page; links lead to `/repositories/ID/…`, not to the requested path; a search
ends at 1,000 results (422 beyond); a 304 for a known ETag does not count against the quota of a credential; 403 with
`x-ratelimit-remaining: 0` when the quota is spent, and 403 or 429 with Retry-After for the secondary limit; 403 without
a User-Agent; 410 for the comments of a deleted issue.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from standins.base import (
    ReceivedRequest,
    Standin,
    Window,
    conditional,
    from_stamp,
    link_header,
    parse_count,
    reply,
    stamp,
)

Record = dict[str, Any]
REPOSITORIES = {"octocat/hello-world": 1296269, "acme/tools": 7654321}
MAX_PER_PAGE = 100
SEARCH_CAP = 1000


class GitHub(Standin):
    """
    Issues of two repositories, their comments, and a search.

    Args:
        tokens: The valid credentials.
        issues: The number of issues in each repository.
        max_per_page, search_cap: Small values make little data behave like much.
        core, search: `(limit, seconds)` of each token's quotas.
        fresh_s: How long lists stay fresh (Cache-Control), in seconds.
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
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.tokens, self.max_per_page, self.search_cap = tokens, max_per_page, search_cap
        self.fresh_s = fresh_s
        self.windows = {"core": Window(*core), "search": Window(*search)}
        self.issues: dict[str, list[Record]] = {}
        self.comments: dict[str, list[Record]] = {}  # by the API path of the issue
        self.gone: set[str] = set()
        for name in REPOSITORIES:
            self.issues[name] = []
            for number in range(1, issues + 1):
                self.add(name, number, self.newest - timedelta(hours=7 * (issues - number)))

    def add(self, name: str, number: int, at: datetime, comments: int | None = None) -> Record:
        """Add an issue with its comments."""
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
        for index in range(count):
            self.comment(name, number, at - timedelta(minutes=count - index))
        record["updated_at"] = stamp(at)
        return record

    def comment(self, name: str, number: int, at: datetime) -> Record:
        """Add a comment, which updates its issue."""
        path = f"/repos/{name}/issues/{number}"
        issue = self.issue(name, number)
        thread = self.comments[path]
        record = {
            "id": issue["id"] * 100 + len(thread),
            "issue_url": path,
            "user": {"login": "someone"},
            "created_at": stamp(at),
            "updated_at": stamp(at),
            "body": f"comment {len(thread)}",
        }
        thread.append(record)
        issue["comments"], issue["updated_at"] = len(thread), stamp(at)
        return record

    def issue(self, name: str, number: int) -> Record:
        """Return an issue by its number."""
        return next(one for one in self.issues[name] if one["number"] == number)

    def respond(self, request: ReceivedRequest) -> web.Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ").removeprefix("token ")
        if "user-agent" not in request.headers:
            return reply({"message": "Request forbidden by administrative rules."}, 403)
        if token not in self.tokens:
            return _message("Bad credentials", 401)
        kind = "search" if request.path.startswith("/search/") else "core"
        window = self.windows[kind]
        accepted = window.take(token)
        response = self._resource(request) if accepted else self._spent()
        if response.status == 304:
            window.give_back(token)
        request.refused = not accepted
        response.headers.update(
            {
                "X-RateLimit-Limit": str(window.limit),
                "X-RateLimit-Remaining": str(max(0, window.remaining(token))),
                "X-RateLimit-Used": str(window.limit - window.remaining(token)),
                "X-RateLimit-Reset": str(int(time.time() + window.left_s(token)) + 1),
                "X-RateLimit-Resource": kind,
                "X-GitHub-Request-Id": f"{len(self.requests):04X}:1",
            }
        )
        return response

    def _spent(self) -> web.Response:
        return _message("API rate limit exceeded for user ID 1.", 403)

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Refuse by the secondary limit, alternately with 403 and 429."""
        status = 403 if len(self.requests) // self.refuse_every % 2 else 429
        text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        response = _message(text, status)
        response.headers["Retry-After"] = "1"
        return response

    def _resource(self, request: ReceivedRequest) -> web.Response:
        if request.method != "GET":
            return _message("Not Found", 404)
        if request.path == "/search/issues":
            return self._search(request)
        path = request.path
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
            return self._page(request, name, list(self.comments[own]))
        state = request.get("state") or "open"
        key = f"{request.get('sort') or 'created'}_at"
        records = [record for record in self.issues[name] if state in ("all", record["state"])]
        if request.get("since"):
            since = from_stamp(request.get("since") or "")
            records = [record for record in records if from_stamp(record["updated_at"]) >= since]
        descending = (request.get("direction") or "desc") == "desc"
        records.sort(key=lambda record: (record[key], record["number"]), reverse=descending)
        return self._page(request, name, records)

    def _page(self, request: ReceivedRequest, name: str, records: list[Record]) -> web.Response:
        start, size, page = self._bounds(request)
        response = reply(records[start : start + size])
        path = "/issues" + request.path.partition("/issues")[2]
        self._link(request, response, f"/repositories/{REPOSITORIES[name]}{path}", page, len(records), size)
        response.headers["Cache-Control"] = f"private, max-age={self.fresh_s}, s-maxage={self.fresh_s}"
        return conditional(request, response)

    def _bounds(self, request: ReceivedRequest) -> tuple[int, int, int]:
        size = min(max(1, parse_count(request.get("per_page"), 30)), self.max_per_page)
        page = max(1, parse_count(request.get("page"), 1))
        return (page - 1) * size, size, page

    def _link(
        self, request: ReceivedRequest, response: web.Response, path: str, page: int, total: int, size: int
    ) -> None:
        last = max(1, -(-total // size))
        to = {"prev": page - 1, "first": 1} if page > 1 else {}
        if page < last:
            to |= {"next": page + 1, "last": last}
        links = []
        for rel, number in to.items():
            query = {**dict(request.query), "page": str(number)}
            links.append((rel, f"{self.url}{path}?{urlencode(query)}"))
        if links:
            response.headers["Link"] = link_header(links)

    def _search(self, request: ReceivedRequest) -> web.Response:
        """Search by the qualifiers `label:` and `created:A..B` (whole days); ignore all others."""
        terms = dict(term.partition(":")[::2] for term in (request.get("q") or "").split())
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
            key=lambda record: (record["created_at"], record["id"]), reverse=request.get("order") != "asc"
        )
        start, size, page = self._bounds(request)
        if start >= self.search_cap:
            return _message("Only the first 1000 search results are available", 422)
        reachable = found[: self.search_cap]
        items = [{**record, "score": 1.0} for record in reachable[start : start + size]]
        response = reply({"total_count": len(found), "incomplete_results": False, "items": items})
        self._link(request, response, "/search/issues", page, len(reachable), size)
        return response


def _message(text: str, status: int) -> web.Response:
    body = {"message": text, "documentation_url": "https://docs.test/rest", "status": str(status)}
    return reply(body, status)
