"""
A stand-in for the Hacker News API (Firebase).

Documented behavior: a list of the newest ids; each item and its `kids` by id; a deleted item is a stub; a missing item
is `null` with status 200; every path ends in `.json`; limits are not documented.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import ReceivedRequest, Standin, reply

Record = dict[str, Any]
MAX_STORIES = 500
MISSING = 5  # every fifth story was removed after its id was listed
JOB, DELETED = 7, 4


class HackerNews(Standin):
    """
    Stories with trees of comments.

    Args:
        stories: The number of stories.
        concurrency: The maximum number of requests in flight; others are refused.
    """

    def __init__(self, *, stories: int = 12, concurrency: int = 20, **options: Any) -> None:
        super().__init__(**options)
        self.concurrency = concurrency
        self.items: dict[int, Record] = {}
        self.stories: list[int] = []
        self._next = 1000
        for number in range(stories):
            self.add(comments=number % 4, missing=number % MISSING == 1)

    def _new(self, **parts: Any) -> Record:
        self._next += 1
        time_s = int((self.newest - timedelta(minutes=2000 - self._next)).timestamp())
        return {"id": self._next, "by": f"user{self._next % 3}", "time": time_s, **parts}

    def add(self, comments: int = 2, *, missing: bool = False) -> Record:
        """Add a story whose comments have one reply fewer at each level; a missing story is listed, but is null."""
        kind = "job" if self._next % JOB == 0 else "story"
        comments = 0 if kind == "job" else comments  # jobs do not have comments
        story = self._new(
            type=kind, title=f"Story {self._next}", url="https://x.test/", score=1, descendants=0
        )
        self.stories.append(story["id"])
        if not missing:
            self.items[story["id"]] = story
            self.reply_to(story, comments)
            story["descendants"] = len(self.below(story["id"])) - 1
        return story

    def reply_to(self, parent: Record, count: int) -> None:
        """Add `count` comments below an item, each with one reply fewer; some of them are deleted."""
        for left in range(count, 0, -1):
            comment = self._new(type="comment", parent=parent["id"], text=f"comment {self._next}")
            if comment["id"] % DELETED == 0:
                comment = {key: comment[key] for key in ("id", "time", "type", "parent")} | {"deleted": True}
            self.items[comment["id"]] = comment
            parent.setdefault("kids", []).append(comment["id"])
            self.reply_to(comment, left - 1)

    def below(self, number: int) -> list[int]:
        """Return the ids of an item and all its descendants."""
        item = self.items.get(number)
        return [number] + [one for kid in (item or {}).get("kids", []) for one in self.below(kid)]

    def reachable(self) -> dict[int, Record]:
        """Return every existing item that can be reached from the list."""
        ids = [one for story in self.stories[-MAX_STORIES:] for one in self.below(story)]
        return {one: self.items[one] for one in ids if one in self.items}

    def respond(self, request: ReceivedRequest) -> web.Response:
        if self.in_flight > self.concurrency:
            return self.refusal(request)
        if request.query:
            return reply({"error": "orderBy must be a valid JSON encoded path"}, 400)
        if request.path == "/v0/newstories.json":
            return reply(self.stories[: -MAX_STORIES - 1 : -1])
        one = re.fullmatch(r"/v0/item/(\d+)\.json", request.path)
        if not one:
            return reply({"error": "Permission denied"}, 401)
        return reply(self.items.get(int(one[1])))

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Refuse with the status alone, without a time to wait."""
        request.refused = True
        return web.Response(status=429, text="Too Many Requests")
