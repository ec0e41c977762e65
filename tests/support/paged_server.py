"""A simulated server with pages, for the tests of paginators."""

from __future__ import annotations

from typing import Any

import orjson
from whole_page import extract

from scrapeq.expression import compile_expression as expression
from scrapeq.expression import compile_template as template
from scrapeq.extract import PageExtractor
from scrapeq.page import Page
from scrapeq.plan import Client, Endpoint, Paginator, Plan, Resource
from scrapeq.protocols import Extraction
from scrapeq.resource import TaskBuilder, first_tasks
from scrapeq.task import Group

BASE = "https://api.test/v1"


class Server:
    """One resource, and the current request of its pagination."""

    def __init__(self, paginator: Paginator, primary_key: tuple[str, ...] = (), **endpoint: Any) -> None:
        resource = Resource(
            "r",
            Endpoint(path=template("x"), paginator=paginator, **{"data_selector": "data", **endpoint}),
            priority=expression("record.rank"),
            primary_key=primary_key,
        )
        plan = Plan("t", "t.yaml", client=Client(base_url=BASE), resources=(resource,))
        self.builder = TaskBuilder(plan, lambda *_: Group())
        self.extractor = PageExtractor(plan, lambda *_: Group())
        (first,) = first_tasks(plan, lambda *_: Group(), 1000.0)
        self.payload, self.priority = first.payload, first.priority

    def respond(self, body: Any, *headers: tuple[str, str]) -> Extraction:
        """Extract a response to the current request; the request for the next page, if any, becomes the current one."""
        page = Page(self.payload["url"], 200, headers, orjson.dumps(body))
        extraction = extract(self.extractor, self.payload, self.priority, page)
        for task in extraction.follow_ups:
            self.payload, self.priority = task.payload, task.priority
        return extraction

    def requested_urls(self, *bodies: Any) -> list[str]:
        """Respond with these bodies while there is a next page; return the requested URLs without base and path."""
        urls = []
        for body in bodies:
            urls.append(self.payload["url"].removeprefix(BASE + "/x"))
            if not self.respond(body).follow_ups:
                break
        return urls
