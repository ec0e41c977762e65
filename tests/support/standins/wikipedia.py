"""
A wiki of the shape of the MediaWiki action API.

Documented: everything is one path; errors and lag come with status 200; `continue` is an object whose members all go
back (a `continue` of its own among them); what is not known is a warning; a limit beyond 500 is cut; who names no agent
is refused; requests come one after the other.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import Asked, Standin, conditional, reply, stamp

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
        pages: How many pages the category has.
        max_limit: The most records of an answer: a smaller one makes small data behave like large.
    """

    category = "Category:Sports cars"

    def __init__(self, *, pages: int = 12, max_limit: int = MAX_LIMIT, **given: Any) -> None:
        super().__init__(**given)
        self.max_limit = max_limit
        self.pages: list[Record] = []
        self.revisions: dict[int, list[Record]] = {}
        for number in range(pages):
            self.add(number * 7 % 120, minutes_ago=60 * (pages - number))

    def add(self, revisions: int = 1, minutes_ago: float = 0) -> Record:
        """One more page of the category."""
        number = 500 + len(self.pages)
        at = self.newest - timedelta(minutes=minutes_ago)
        page = {"pageid": number, "ns": 0, "title": f"Car {number} & co", "timestamp": stamp(at)}
        self.pages.append(page)
        self.revisions[number] = []
        for _ in range(revisions):
            self.edit(number)
        return page

    def edit(self, page: int) -> Record:
        """One more revision of a page; the first is the oldest."""
        kept = self.revisions[page]
        number = page * 1000 + len(kept)
        revision = {
            "revid": number,
            "parentid": number - 1 if kept else 0,
            "user": f"User{number % 3}",
            "timestamp": stamp(self.newest - timedelta(minutes=1000 - len(kept))),
            "size": 100 + len(kept),
            "comment": "/* section */ ünï",
        }
        kept.append(revision)
        return revision

    def answer(self, asked: Asked) -> web.Response:
        agent = asked.headers.get("user-agent", "")
        if "@" not in agent and "http" not in agent:
            return web.Response(status=403, text="Please set a user-agent and respect our robot policy.")
        if self.in_flight > 1:
            asked.refused = True
            return _error("ratelimited", "You've exceeded your rate limit.", status=200, retry_after="1")
        if asked.path != "/w/api.php":
            return web.Response(status=404, text="File not found.")
        if asked.get("action") != "query" or asked.get("format") != "json":
            return _error("badvalue", 'Unrecognized value for parameter "action".')
        module = asked.get("list") or asked.get("prop") or ""
        if module not in KNOWN:
            return _error("badvalue", f"Unrecognized value: {module}.")
        strange = [name for name, _ in asked.query if name not in KNOWN[module] | COMMON]
        answer = self._members(asked) if module == "categorymembers" else self._revisions(asked)
        if isinstance(answer, web.Response):
            return answer
        if strange:
            text = f"Unrecognized parameters: {', '.join(strange)}."
            answer["warnings"] = {"main": {"warnings": text}}
        response = reply(answer)
        response.headers["Cache-Control"] = "private, must-revalidate, max-age=0"
        return conditional(asked, response)

    def refusal(self, asked: Asked) -> web.Response:
        """The databases lag: 200, told in the body."""
        response = _error(
            "maxlag", "Waiting for db1: 6.27 seconds lagged.", retry_after="1", lag=6.27, host="db1"
        )
        response.headers["X-Database-Lag"] = "6"
        return response

    def _members(self, asked: Asked) -> dict[str, Any] | web.Response:
        if asked.get("cmtitle") != self.category:
            records = []
        else:
            reverse = asked.get("cmdir") in ("desc", "descending", "older")
            records = sorted(
                self.pages, key=lambda page: (page["timestamp"], page["pageid"]), reverse=reverse
            )
        size = self._limit(asked, "cmlimit")
        at = asked.get("cmcontinue")
        start = 0
        if at is not None:
            if asked.get("continue") != "-||":
                return _error("badcontinue", "Invalid continue param. You should pass the original value.")
            marks = [_mark(page) for page in records]
            if at not in marks:
                return _error("badcontinue", "Invalid continue param.")
            start = marks.index(at)
        answer: dict[str, Any] = {"batchcomplete": True}
        if start + size < len(records):
            answer["continue"] = {"cmcontinue": _mark(records[start + size]), "continue": "-||"}
        return answer | {"query": {"categorymembers": records[start : start + size]}}

    def _revisions(self, asked: Asked) -> dict[str, Any] | web.Response:
        number = int(asked.get("pageids") or "0")
        page = next((one for one in self.pages if one["pageid"] == number), None)
        if page is None:
            return {"batchcomplete": True, "query": {"pages": [{"pageid": number, "missing": True}]}}
        records = self.revisions[number][::-1]
        size = self._limit(asked, "rvlimit")
        start = 0
        at = asked.get("rvcontinue")
        if at is not None:
            ids = [f"{one['timestamp']}|{one['revid']}" for one in records]
            if at not in ids or asked.get("continue") != "||":
                return _error("badcontinue", "Invalid continue param.")
            start = ids.index(at)
        shown = {key: page[key] for key in ("pageid", "ns", "title")}
        if records:  # a page whose revisions are hidden has no such member
            shown["revisions"] = records[start : start + size]
        answer: dict[str, Any] = {"query": {"pages": [shown]}}
        if start + size < len(records):
            first = records[start + size]
            mark = f"{first['timestamp']}|{first['revid']}"
            return {"continue": {"rvcontinue": mark, "continue": "||"}, **answer}
        return {"batchcomplete": True, **answer}

    def _limit(self, asked: Asked, name: str) -> int:
        text = asked.get(name) or "10"
        return self.max_limit if text == "max" else min(int(text), self.max_limit)


def _mark(page: Record) -> str:
    return f"{page['timestamp']}|{page['pageid']}"


def _error(code: str, info: str, *, status: int = 200, retry_after: str = "", **more: Any) -> web.Response:
    response = reply({"error": {"code": code, "info": info, **more}, "servedby": "mw1"}, status)
    response.headers["MediaWiki-API-Error"] = code
    if retry_after:
        response.headers["Retry-After"] = retry_after
    return response
