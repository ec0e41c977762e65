"""Where the next page is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scrapeq.errors import ExtractError
from scrapeq.expression import as_number, as_text
from scrapeq.extract.link_header import link_target
from scrapeq.extract.selector import Path, compile_path
from scrapeq.page import Page
from scrapeq.plan import Paginator
from scrapeq.resource import Payload, canonical
from scrapeq.resource.address import get_param, resolve, set_params

_NO_MORE = frozenset({"false", "0", "no", ""})


@dataclass(frozen=True, slots=True)
class Next:
    """The next page: its address, and what the payload must remember for the page behind it."""

    url: str
    state: dict[str, str] = field(default_factory=dict)


class Walk:
    """
    Finds the next page of a resource.

    Raises:
        UsageError: a path of the paginator is none.
    """

    def __init__(self, paginator: Paginator) -> None:
        self._paginator = paginator
        self._has_more = _path(paginator.has_more_path, "has_more_path")
        self._total = _path(paginator.total_path, "total_path")
        self._cursor = _path(paginator.cursor_path, "cursor_path")
        stop = paginator.stop_after_empty_page
        # An empty page in the middle of a walk is common behind a cursor or a link, never behind a number.
        self._stops_when_empty = paginator.type == "page_number" if stop is None else stop

    def next_page(
        self, payload: Payload, page: Page, body: Any, records: list[Any], scope: Mapping[str, Any]
    ) -> Next | None:
        """
        The page behind this one; None when the walk ends here.

        Args:
            payload: The task's.
            page: Its answer.
            body: The answer, decoded.
            records: What was selected of it, before any filter.
            scope: What `stop_when` may read.

        Raises:
            ExtractError: the cursor is nothing that can be sent.
            UsageError: the link leads to no http(s) address.
        """
        paginator = self._paginator
        if paginator.type == "single_page" or self._ends_here(payload, body, records, scope):
            return None
        if paginator.type == "header_link":
            target = link_target(page.header("link") or "", paginator.links_next_key)
            found = None if target is None else Next(resolve(page.url or payload["url"], target))
        elif paginator.type == "page_number":
            found = self._next_number(payload, body)
        else:
            found = self._next_cursor(payload, body)
        # A page that names itself as the next would be walked for ever. Longer circles end in the queue, which
        # pushes no request twice in a run.
        return None if found is None or canonical(found.url) == canonical(payload["url"]) else found

    def _ends_here(self, payload: Payload, body: Any, records: list[Any], scope: Mapping[str, Any]) -> bool:
        paginator = self._paginator
        if paginator.max_pages is not None and payload.get("page", 1) >= paginator.max_pages:
            return True
        if not records and self._stops_when_empty:
            return True
        if self._has_more is not None:
            more = self._has_more(body)
            # A server that leaves false values out says nothing here: null ends no walk.
            if more is not None and (as_text(more) or "").lower() in _NO_MORE:
                return True
        return paginator.stop_when is not None and bool(paginator.stop_when.evaluate(scope))

    def _next_number(self, payload: Payload, body: Any) -> Next | None:
        paginator = self._paginator
        sent = as_number(get_param(payload["url"], paginator.page_param or "page"))
        number = int(sent) if sent is not None else paginator.base_page + payload.get("page", 1) - 1
        number += 1
        if paginator.maximum_page is not None and number > paginator.maximum_page:
            return None
        total = None if self._total is None else as_number(self._total(body))
        if total is not None and number >= paginator.base_page + total:
            return None
        return Next(set_params(payload["url"], {paginator.page_param or "page": str(number)}))

    def _next_cursor(self, payload: Payload, body: Any) -> Next | None:
        value = None if self._cursor is None else self._cursor(body)
        if not value:  # null, "", 0, false, an empty map: the servers' ways to say the end
            return None
        if isinstance(value, Mapping):
            # Members that the last page added and this one lacks must go: back to the first page's address.
            first = payload.get("first_url") or payload["url"]
            members = {name: as_text(member) for name, member in value.items()}
            return Next(set_params(first, members), {"first_url": first})
        if isinstance(value, bool | list):
            raise ExtractError(
                f"cursor_path: {self._paginator.cursor_path!r} gives {as_text(value)}, no cursor"
            )
        return Next(set_params(payload["url"], {self._paginator.cursor_param or "cursor": as_text(value)}))


def _path(path: str, field: str) -> Path | None:
    return compile_path(path, field) if path else None
