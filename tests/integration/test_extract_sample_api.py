"""The example's plan against the sample API: every record once, newest first, with nothing but a priority queue."""

from __future__ import annotations

import heapq
from itertools import count

import aiohttp

from scrapeq.demo import DemoServer
from scrapeq.expression import compile_expression as expression
from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.plan import Client, Endpoint, Paginator, Parent, Plan, Resource
from scrapeq.protocols import Item
from scrapeq.resource import first_tasks
from scrapeq.task import Group, NewTask

NOW_S = 1_760_000_000.0


def example(url: str) -> Plan:
    """What configs/api.yaml says."""
    path = "repos/${seed.owner}/${seed.repo}/issues"
    newest_first = {"per_page": 50, "state": "all", "sort": "updated", "direction": "desc"}
    issues = Endpoint(path=template(path), params=newest_first, paginator=Paginator("header_link"))
    comments = Endpoint(
        path=template(path + "/${parent.number}/comments"),
        params={"per_page": 50},
        paginator=Paginator("header_link"),
    )
    edge = Parent("issues", when=expression("parent.comments > 0"), priority=expression("parent.updated_at"))
    return Plan(
        "api",
        "api.yaml",
        client=Client(base_url=url),
        seeds=({"owner": "octo", "repo": "tools"}, {"owner": "octo", "repo": "site"}),
        resources=(
            Resource("issues", issues, primary_key=("id",), priority=expression("record.updated_at")),
            Resource(
                "comments", comments, parents=(edge,), primary_key=("id",), include_from_parent=("number",)
            ),
        ),
    )


async def test_everything_is_found_once_and_the_newest_first() -> None:
    """Popped by priority, the comments of an issue never come before those of a newer one that is known."""
    async with (
        DemoServer(limit=100_000, latency_ms=(0, 0), scale=0.4) as server,
        aiohttp.ClientSession() as session,
    ):
        plan = example(server.url)
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
            async with session.get(task.payload["url"]) as answer:
                headers = tuple(answer.headers.items())
                page = Page(str(answer.url), answer.status, headers, await answer.read())
            found = extractor.extract(task.payload, task.priority, page)
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
