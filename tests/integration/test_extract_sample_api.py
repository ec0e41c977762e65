"""The example configuration against the sample API, with a plain heap as the queue."""

from __future__ import annotations

import heapq
from itertools import count
from pathlib import Path

import aiohttp
from whole_page import extract

from scrapeq.config import load
from scrapeq.demo import DemoServer
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.protocols import Item
from scrapeq.resource import first_tasks
from scrapeq.task import Group, NewTask

NOW_S = 1_760_000_000.0
EXAMPLE = Path(__file__).parents[2] / "configs" / "api.yaml"


async def test_every_record_is_found_once_newest_first() -> None:
    """Popping by priority, the comments of an issue never come before those of a newer known issue."""
    async with (
        DemoServer(limit=100_000, latency_ms=(0, 0), scale=0.4) as server,
        aiohttp.ClientSession() as session,
    ):
        plan = load(EXAMPLE, env={"API_URL": server.url})
        extractor = PageExtractor(plan, lambda *_: Group())
        order = count()
        queue: list[tuple[float, int, NewTask]] = []
        for task in first_tasks(plan, lambda *_: Group(), NOW_S):
            heapq.heappush(queue, (-task.priority, next(order), task))
        items: dict[tuple[str, str], Item] = {}
        seen: set[str] = set()
        ranks: list[float] = []
        while queue:
            _, _, task = heapq.heappop(queue)
            assert task.key not in seen
            seen.add(task.key)
            ranks.append(task.priority)
            async with session.get(task.payload["url"]) as response:
                headers = tuple(response.headers.items())
                page = Page(str(response.url), response.status, headers, await response.read())
            found = extract(extractor, task.payload, task.priority, page)
            assert found.skipped == 0
            for item in found.items:
                items[item.resource, item.key] = item
            for follow_up in found.follow_ups:
                heapq.heappush(queue, (-follow_up.priority, next(order), follow_up))
        expected = {
            ("issues", str(issue["id"])): issue
            for repo in ("tools", "site")
            for issue in server.dataset.issues("octo", repo) or []
        }
        comments = sum(issue["comments"] for issue in expected.values())
        assert {key: item.record for key, item in items.items() if key[0] == "issues"} == expected
        assert len(items) == len(expected) + comments
        numbers = {item.record["_issues_number"] for key, item in items.items() if key[0] == "comments"}
        assert numbers == {issue["number"] for issue in expected.values() if issue["comments"]}
        assert ranks == sorted(ranks, reverse=True)
