"""
Your own functions in a scrape: `handler`, `on_page` and `on_item` of a resource.

    resources:
      - name: posts
        endpoint: posts
        handler: blog:posts            # the function `posts` in blog.py, beside the YAML file

    from collections.abc import Iterator
    from scrapeq import Context, Page, Result

    def posts(page: Page, context: Context) -> Iterator[Result]:
        for post in page.json()["posts"]:
            yield {"id": post["id"], "title": post["title"].strip()}     # a record of this resource
            yield context.follow("comments", post)                       # a declared child of it
        yield context.next_page("?page=2")                               # the same request at another URL

A **handler** takes a page and its context and returns records and follow-ups. It replaces the declared extraction:
children are not followed automatically. `record_filter`, `fields`, `include_from_parent` and `primary_key` apply to
its records too, and the declared `paginator` still finds the next page. It returns one result, an iterable of
results, or None, or it is a generator; each may be async.

**on_page**(page, context) runs before a page is read, by a handler or as declared. It may return another Page
(`dataclasses.replace(page, body=...)`), or None to leave the page as it is.

**on_item**(record, context) runs on each record just before it is written. It returns the record, a changed one, or
None to leave the record out. Its context is that of the page.

Each of them may be `async def`. A plain function runs on the event loop and blocks all requests of its process
meanwhile, so long waits and computations belong in an async function or in `asyncio.to_thread`. An exception makes
the task a dead letter that names the hook, the file and the line; the traceback is in the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import urljoin

from scrapeq.page import Page

Record: TypeAlias = Mapping[str, Any]
"""Plain JSON: strings, numbers, booleans, None, and lists and maps of them. Times become ISO 8601 strings."""

Rank: TypeAlias = float | str | datetime | None
"""A priority: a finite number or a time (also as an ISO 8601 string); None = as declared, else inherited."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """A record to write; see `Context.item`."""

    record: Record
    resource: str
    parent: Record | None = None


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A declared child of a record; see `Context.follow`."""

    resource: str
    record: Record
    priority: Rank = None


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request to send; see `Context.request` and `Context.next_page`."""

    url: str
    resource: str
    priority: Rank = None
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    parent: Record | None = None
    is_next_page: bool = False


Result: TypeAlias = Record | NewItem | FollowUp | NewRequest
"""What a handler returns; a plain map is a record of the page's own resource."""

Results: TypeAlias = Result | Iterable[Result] | None

Handler: TypeAlias = Callable[[Page, "Context"], Results | AsyncIterable[Result] | Awaitable[Results]]
OnPage: TypeAlias = Callable[[Page, "Context"], Page | Awaitable[Page | None] | None]
OnItem: TypeAlias = Callable[[dict[str, Any], "Context"], Record | Awaitable[Record | None] | None]


@dataclass(frozen=True, slots=True)
class Context:
    """
    What is known about a page besides its response.

    Args:
        resource: The resource of the page.
        seed: The seed that the page sequence started from.
        parent: The record that the page was requested for; None for pages without a parent.
        resources: All parent records by their resource, as `resources.NAME` in expressions.
        depth: The number of records between the page and its seed.
        page: The number of the page in its sequence, from 1.
        url: The address of the response, after redirects.
        priority: The priority of the task.
    """

    resource: str
    seed: Mapping[str, Any] = field(default_factory=dict)
    parent: Any = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0
    page: int = 1
    url: str = ""
    priority: float = 0.0

    def item(self, record: Record, *, resource: str = "", parent: Record | None = None) -> NewItem:
        """
        Return a record to write.

        Args:
            record: Plain JSON.
            resource: The resource of the record; "" = that of the page, for which a plain map will do.
            parent: The record that contains it, for `include_from_parent` of another resource.
        """
        return NewItem(record, resource or self.resource, parent)

    def follow(self, resource: str, record: Record, *, priority: Rank = None) -> FollowUp:
        """
        Return the requests of a declared child for a record; `each`, `when` and `priority` of its `parent` apply.

        Args:
            resource: A resource whose `parent` is that of the page. Without an endpoint it yields items, not requests.
            record: The parent's record; `parent.x` in the child's path and parameters reads it.
            priority: Replaces the declared priority.
        """
        return FollowUp(resource, record, priority)

    def request(
        self,
        url: str,
        *,
        resource: str = "",
        priority: Rank = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        parent: Record | None = None,
    ) -> NewRequest:
        """
        Return a request to send, one level deeper.

        Args:
            url: Absolute, or relative to the page.
            resource: The resource that reads the response; "" = that of the page.
            priority: Its priority; None = that of the page.
            method: GET, POST and so on.
            headers: Added to `client.headers`. Put no secrets here: the request is stored in the queue.
            params: Added to the query; None is left out, a list repeats its name.
            json: A body.
            parent: The record that the request is about: `context.parent` for its page.
        """
        return NewRequest(
            urljoin(self.url, url),
            resource or self.resource,
            priority,
            method,
            dict(headers or {}),
            dict(params or {}),
            json,
            parent,
        )

    def next_page(self, url: str, *, priority: Rank = None) -> NewRequest:
        """Return the next page: the request of this page at another address; seed, parent, headers and body stay."""
        return NewRequest(urljoin(self.url, url), self.resource, priority, is_next_page=True)
