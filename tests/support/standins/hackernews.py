"""
A news site of the shape of the Hacker News API (Firebase).

Documented: a list of the newest ids, an item by its id, its `kids` by theirs; a deleted item is a stub, one that is not
there answers `null` with 200; every path ends in `.json`; nothing is said about limits.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from aiohttp import web

from standins.base import Asked, Standin, reply

Record = dict[str, Any]
MAX_STORIES = 500
NOT_THERE = 5  # each so manieth story was taken away after its id was listed
JOB, DELETED = 7, 4


class HackerNews(Standin):
    """
    Stories with trees of comments.

    Args:
        stories: How many stories there are.
        most_at_once: More requests than that in flight are refused.
    """

    def __init__(self, *, stories: int = 12, most_at_once: int = 20, **given: Any) -> None:
        super().__init__(**given)
        self.most_at_once = most_at_once
        self.items: dict[int, Record] = {}
        self.stories: list[int] = []
        self._next = 1000
        for number in range(stories):
            self.add(comments=number % 4, missing=number % NOT_THERE == 1)

    def _new(self, **parts: Any) -> Record:
        self._next += 1
        time_s = int((self.newest - timedelta(minutes=2000 - self._next)).timestamp())
        return {"id": self._next, "by": f"user{self._next % 3}", "time": time_s, **parts}

    def add(self, comments: int = 2, *, missing: bool = False) -> Record:
        """One more story, each of whose comments has one fewer below it; a missing one is listed, but answers null."""
        kind = "job" if self._next % JOB == 0 else "story"
        comments = 0 if kind == "job" else comments  # nobody comments on a job
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
        """So many comments below an item, each with one fewer of its own; now and then one is deleted."""
        for left in range(count, 0, -1):
            comment = self._new(type="comment", parent=parent["id"], text=f"comment {self._next}")
            if comment["id"] % DELETED == 0:
                comment = {key: comment[key] for key in ("id", "time", "type", "parent")} | {"deleted": True}
            self.items[comment["id"]] = comment
            parent.setdefault("kids", []).append(comment["id"])
            self.reply_to(comment, left - 1)

    def below(self, number: int) -> list[int]:
        """An item and all that hangs below it."""
        item = self.items.get(number)
        return [number] + [one for kid in (item or {}).get("kids", []) for one in self.below(kid)]

    def truth(self) -> dict[int, Record]:
        """What can be reached from the list: every item that is there."""
        ids = [one for story in self.stories[-MAX_STORIES:] for one in self.below(story)]
        return {one: self.items[one] for one in ids if one in self.items}

    def answer(self, asked: Asked) -> web.Response:
        if self.in_flight > self.most_at_once:
            return self.refusal(asked)
        if asked.query:
            return reply({"error": "orderBy must be a valid JSON encoded path"}, 400)
        if asked.path == "/v0/newstories.json":
            return reply(self.stories[: -MAX_STORIES - 1 : -1])
        one = re.fullmatch(r"/v0/item/(\d+)\.json", asked.path)
        if not one:
            return reply({"error": "Permission denied"}, 401)
        return reply(self.items.get(int(one[1])))

    def refusal(self, asked: Asked) -> web.Response:
        """Nothing but the status: no time is told."""
        asked.refused = True
        return web.Response(status=429, text="Too Many Requests")
