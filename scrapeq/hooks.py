"""
Functions of your own that take part in a scrape: `handler`, `on_page` and `on_item` of a resource.

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
        yield context.next_page("?page=2")                               # the same request, elsewhere

A **handler** takes the page and its context and gives records and follow-ups, in place of what the resource declares:
no child is followed by itself. `record_filter`, `fields`, `include_from_parent` and `primary_key` hold for its records
as for any, and the declared `paginator` still finds the next page. It returns one result, an iterable of them, or
None, or is a generator; each may be async.

**on_page**(page, context) runs before a page is read, by a handler or as declared; it may return another Page
(`dataclasses.replace(page, body=...)`), or None to leave it.

**on_item**(record, context) runs on each record as it is written, last of all; it returns the record, a changed one,
or None to leave it out. Its context is that of the page.

Any of them may be `async def`. One that is not is called on the event loop, where all requests of its process wait
for it: what waits or computes for long should be async, or hand that to `asyncio.to_thread`. An exception makes the
task a dead letter that names the hook, the file and the line; the traceback is in the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import urljoin

from scrapeq.page import Page

Record: TypeAlias = Mapping[str, Any]
"""Plain JSON: text, numbers, true, false, None, lists and maps of them. Times become ISO 8601 text."""

Rank: TypeAlias = float | str | datetime | None
"""A priority: any finite number, or a time (ISO 8601 text is one); None = as declared, else inherited."""


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
    """An address to ask; see `Context.request` and `Context.next_page`."""

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
"""What a handler gives; a map is a record of the page's own resource."""

Results: TypeAlias = Result | Iterable[Result] | None

Handler: TypeAlias = Callable[[Page, "Context"], Results | AsyncIterable[Result] | Awaitable[Results]]
OnPage: TypeAlias = Callable[[Page, "Context"], Page | Awaitable[Page | None] | None]
OnItem: TypeAlias = Callable[[dict[str, Any], "Context"], Record | Awaitable[Record | None] | None]


@dataclass(frozen=True, slots=True)
class Context:
    """
    What is known of a page besides its answer.

    Args:
        resource: The resource whose page it is.
        seed: The seed that it all began with.
        parent: The record that the page was asked for, None for a first page.
        resources: The records above by their resource, as `resources.NAME` in expressions.
        depth: How many records lie between the page and the seed.
        page: Which page of its walk it is, from 1.
        url: Where the answer came from, after redirects.
        priority: The task's.
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
        A record to write.

        Args:
            record: Plain JSON.
            resource: Whose record it is; empty = the page's resource, for which the map alone will do.
            parent: The record that it stood in, for `include_from_parent` of another resource.
        """
        return NewItem(record, resource or self.resource, parent)

    def follow(self, resource: str, record: Record, *, priority: Rank = None) -> FollowUp:
        """
        What a declared child asks for about a record, as its `parent` says: its `each`, `when` and `priority` hold.

        Args:
            resource: A resource whose `parent` is the page's. One without an endpoint gives items, no request.
            record: The parent's record; `parent.x` in the child's path and parameters reads it.
            priority: Instead of the declared one.
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
        An address to ask, one level deeper.

        Args:
            url: As it is, or relative to the page's own.
            resource: Which resource reads the answer; empty = the page's.
            priority: Its rank; None = the page's.
            method: GET, POST, ….
            headers: Beside those of `client.headers`. No secrets: the request is kept in the store.
            params: Added to the URL; None is left out, a list repeats its name.
            json: A body.
            parent: The record that it is about: `context.parent` there.
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
        """The request of this page again at another address, as its next page: seed, parent, headers and body stay."""
        return NewRequest(urljoin(self.url, url), self.resource, priority, is_next_page=True)
