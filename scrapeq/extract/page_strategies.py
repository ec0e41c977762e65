"""Builds the strategy of a configured paginator, or that of another package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scrapeq import plugins
from scrapeq.errors import ExtractError, ScrapeqError
from scrapeq.extract.known_names import EXCLUSIVE_CURSORS, normalize
from scrapeq.extract.paginators import (
    Cursor,
    FetchedPage,
    HeaderLink,
    JsonLink,
    Offset,
    PageNumber,
    PageStrategy,
    SinglePage,
)
from scrapeq.extract.selector import Path, compile_path
from scrapeq.plan import PAGINATORS, Paginator
from scrapeq.protocols import Change, PageRequest, Paginate
from scrapeq.resource.next_request import cursor_position, offset_position, page_position


class PluginPaginator(SinglePage):
    """A paginator of another package; whatever it raises gets its name."""

    def __init__(self, name: str, paginate: Paginate, options: Mapping[str, Any]) -> None:
        self._name, self._paginate, self._options = name, paginate, options

    def next(self, fetched: FetchedPage) -> Change | None:
        request = fetched.request
        page_request = PageRequest(
            request.method, request.url, request.headers, request.body, fetched.number, fetched.memory
        )
        try:
            change = self._paginate(
                fetched.page, fetched.body, fetched.records or (), page_request, self._options
            )
        except ScrapeqError:
            raise
        except Exception as error:
            raise ExtractError(f"the paginator {self._name}: {type(error).__name__}: {error}") from error
        if change is not None and not isinstance(change, Change):
            raise ExtractError(
                f"the paginator {self._name} returned {type(change).__name__}, not a Change or None"
            )
        return change


def page_strategy(paginator: Paginator, selector: str = "") -> PageStrategy:
    """
    Return the strategy of a paginator; `auto` has none before the first response.

    Raises:
        UsageError: a path is invalid, or no package provides a paginator of that name.
    """
    kind = paginator.type
    if kind in ("single_page", "auto"):
        return SinglePage()
    if kind == "json_link":
        path = paginator.next_url_path or "next"
        return JsonLink(
            in_body(path, "next_url_path") or (lambda fetched: None), f"next_url_path: {path!r}", path
        )
    if kind == "header_link":
        return HeaderLink(paginator.links_next_key, paginator.link_header)
    if kind == "header_cursor":
        header = paginator.cursor_key
        return Cursor(
            lambda fetched: fetched.page.header(header),
            cursor_position(paginator),
            f"cursor_key: {header!r}",
            kept=_kept_params(paginator),
        )
    if kind == "cursor":
        path = paginator.cursor_path
        read = in_body(path, "cursor_path")
        return Cursor(
            read or (lambda fetched: None),
            cursor_position(paginator),
            f"cursor_path: {path!r}",
            path,
            _kept_params(paginator),
        )
    if kind == "page_number":
        return PageNumber(
            page_position(paginator),
            paginator.base_page,
            in_body(paginator.page_path, "page_path"),
            in_body(paginator.total_path, "total_path"),
            paginator.maximum_page,
        )
    if kind == "offset":
        return Offset(
            offset_position(paginator),
            paginator.offset,
            paginator.limit,
            in_body(paginator.total_path, "total_path"),
            paginator.maximum_offset,
            filters_records="[?" in selector,
        )
    assert kind not in PAGINATORS
    return PluginPaginator(kind, plugins.load(plugins.PAGINATORS, kind), paginator.options)


def _kept_params(paginator: Paginator) -> Sequence[str] | None:
    """Return the parameters that a cursor leaves in the next request; None if it leaves all."""
    exclusive = paginator.exclusive
    if exclusive is None:
        exclusive = normalize(paginator.cursor_param) in EXCLUSIVE_CURSORS
    return paginator.keep_params if exclusive else None


def in_body(path: str, field: str) -> Callable[[FetchedPage], Any] | None:
    """Return a function that reads a path of the body; None for an empty path."""
    if not path:
        return None
    read: Path = compile_path(path, field)
    return lambda fetched: read(fetched.body)
