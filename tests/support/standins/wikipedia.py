"""
A stand-in for the MediaWiki action API.

Documented behavior: there is one path; errors and lag have status 200; the client sends back every member of the
`continue` object (which has a member `continue` itself); unknown parameters cause a warning; limits above 500 are cut
to 500; a request without a descriptive User-Agent is refused; clients send one request at a time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import ReceivedRequest, Standin, conditional, reply, stamp

Record = dict[str, Any]
MAX_LIMIT = 500
COMMON = {"action", "format", "formatversion", "maxlag", "list", "prop", "continue", "origin", "assert"}
KNOWN = {
    "categorymembers": {
        "cmtitle",
        "cmlimit",
        "cmsort",
        "cmdir",
        "cmprop",
        "cmcontinue",
        "cmtype",
        "cmnamespace",
    },
    "revisions": {"pageids", "titles", "rvlimit", "rvprop", "rvcontinue", "rvdir", "rvstart", "rvend"},
}


class Wikipedia(Standin):
    """
    Pages of one category, newest first, and their revisions.

    Args:
        pages: The number of pages in the category.
        max_limit: The maximum page size; a small one makes little data behave like much.
    """

    category = "Category:Sports cars"

    def __init__(self, *, pages: int = 12, max_limit: int = MAX_LIMIT, **options: Any) -> None:
        super().__init__(**options)
        self.max_limit = max_limit
        self.pages: list[Record] = []
        self.revisions: dict[int, list[Record]] = {}
        for number in range(pages):
            self.add(number * 7 % 120, minutes_ago=60 * (pages - number))

    def add(self, revisions: int = 1, minutes_ago: float = 0) -> Record:
        """Add a page to the category."""
        number = 500 + len(self.pages)
        at = self.newest - timedelta(minutes=minutes_ago)
        page = {"pageid": number, "ns": 0, "title": f"Car {number} & co", "timestamp": stamp(at)}
        self.pages.append(page)
        self.revisions[number] = []
        for _ in range(revisions):
            self.edit(number)
        return page

    def edit(self, page: int) -> Record:
        """Add a revision to a page; the first is the oldest."""
        history = self.revisions[page]
        number = page * 1000 + len(history)
        revision = {
            "revid": number,
            "parentid": number - 1 if history else 0,
            "user": f"User{number % 3}",
            "timestamp": stamp(self.newest - timedelta(minutes=1000 - len(history))),
            "size": 100 + len(history),
            "comment": "/* section */ ünï",
        }
        history.append(revision)
        return revision

    def respond(self, request: ReceivedRequest) -> web.Response:
        agent = request.headers.get("user-agent", "")
        if "@" not in agent and "http" not in agent:
            return web.Response(status=403, text="Please set a user-agent and respect our robot policy.")
        if self.in_flight > 1:
            request.refused = True
            return _error("ratelimited", "You've exceeded your rate limit.", status=200, retry_after="1")
        if request.path != "/w/api.php":
            return web.Response(status=404, text="File not found.")
        if request.get("action") != "query" or request.get("format") != "json":
            return _error("badvalue", 'Unrecognized value for parameter "action".')
        module = request.get("list") or request.get("prop") or ""
        if module not in KNOWN:
            return _error("badvalue", f"Unrecognized value: {module}.")
        unexpected = [name for name, _ in request.query if name not in KNOWN[module] | COMMON]
        body = self._members(request) if module == "categorymembers" else self._revisions(request)
        if isinstance(body, web.Response):
            return body
        if unexpected:
            text = f"Unrecognized parameters: {', '.join(unexpected)}."
            body["warnings"] = {"main": {"warnings": text}}
        response = reply(body)
        response.headers["Cache-Control"] = "private, must-revalidate, max-age=0"
        return conditional(request, response)

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Return the error for a database lag, with status 200."""
        response = _error(
            "maxlag", "Waiting for db1: 6.27 seconds lagged.", retry_after="1", lag=6.27, host="db1"
        )
        response.headers["X-Database-Lag"] = "6"
        return response

    def _members(self, request: ReceivedRequest) -> dict[str, Any] | web.Response:
        if request.get("cmtitle") != self.category:
            records = []
        else:
            reverse = request.get("cmdir") in ("desc", "descending", "older")
            records = sorted(
                self.pages, key=lambda page: (page["timestamp"], page["pageid"]), reverse=reverse
            )
        size = self._limit(request, "cmlimit")
        at = request.get("cmcontinue")
        start = 0
        if at is not None:
            if request.get("continue") != "-||":
                return _error("badcontinue", "Invalid continue param. You should pass the original value.")
            marks = [_mark(page) for page in records]
            if at not in marks:
                return _error("badcontinue", "Invalid continue param.")
            start = marks.index(at)
        body: dict[str, Any] = {"batchcomplete": True}
        if start + size < len(records):
            body["continue"] = {"cmcontinue": _mark(records[start + size]), "continue": "-||"}
        return body | {"query": {"categorymembers": records[start : start + size]}}

    def _revisions(self, request: ReceivedRequest) -> dict[str, Any] | web.Response:
        number = int(request.get("pageids") or "0")
        page = next((one for one in self.pages if one["pageid"] == number), None)
        if page is None:
            return {"batchcomplete": True, "query": {"pages": [{"pageid": number, "missing": True}]}}
        records = self.revisions[number][::-1]
        size = self._limit(request, "rvlimit")
        start = 0
        at = request.get("rvcontinue")
        if at is not None:
            ids = [f"{one['timestamp']}|{one['revid']}" for one in records]
            if at not in ids or request.get("continue") != "||":
                return _error("badcontinue", "Invalid continue param.")
            start = ids.index(at)
        result = {key: page[key] for key in ("pageid", "ns", "title")}
        if records:  # a page with hidden revisions lacks this member
            result["revisions"] = records[start : start + size]
        body: dict[str, Any] = {"query": {"pages": [result]}}
        if start + size < len(records):
            first = records[start + size]
            mark = f"{first['timestamp']}|{first['revid']}"
            return {"continue": {"rvcontinue": mark, "continue": "||"}, **body}
        return {"batchcomplete": True, **body}

    def _limit(self, request: ReceivedRequest, name: str) -> int:
        text = request.get(name) or "10"
        return self.max_limit if text == "max" else min(int(text), self.max_limit)


def _mark(page: Record) -> str:
    return f"{page['timestamp']}|{page['pageid']}"


def _error(code: str, info: str, *, status: int = 200, retry_after: str = "", **more: Any) -> web.Response:
    response = reply({"error": {"code": code, "info": info, **more}, "servedby": "mw1"}, status)
    response.headers["MediaWiki-API-Error"] = code
    if retry_after:
        response.headers["Retry-After"] = retry_after
    return response
