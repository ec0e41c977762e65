"""Whether a body has records in the place where they are expected, or states an error there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

from scrapeq.errors import BrokenBody
from scrapeq.extract.compiled_resource import CompiledResource
from scrapeq.extract.config_warnings import description
from scrapeq.extract.error_bodies import error_beside_data, is_empty_list, stated_error, stated_xml_error
from scrapeq.page import FIRST_ERROR_STATUS, Page
from scrapeq.resource import Payload

Found = Literal["records", "missing", "empty", "body"]
"""What is in the place of the records: records, nothing, an empty list, or a map that may itself be the record."""


_PARTIAL = (
    "a page has data beside an error ({}), so records may be missing; if they are not, accept such responses with a "
    "response action (`action: success`)"
)


class Checked(NamedTuple):
    """
    What the check found.

    Args:
        has_place: The body has the place of the records, even if the list there is empty.
        is_empty: The response states that no records match, so what was selected is not a record.
        partial: Why the records may be incomplete although there are some; empty = they are not.
    """

    has_place: bool = False
    is_empty: bool = False
    partial: str = ""


def check_body(
    compiled: CompiledResource,
    payload: Payload,
    page: Page,
    body: Any,
    records: list[Any],
    *,
    is_tree: bool,
    states_what_follows: Callable[[], bool],
) -> Checked:
    """
    Look for an error in the place of the records, unless a response action accepts the response as it is.

    Args:
        compiled: The resource.
        payload, page: The task and its response.
        body: The decoded body.
        records: What the resource selects there.
        is_tree: The body is XML.
        states_what_follows: Whether a page without records links on or states that it is the last one.

    Raises:
        BrokenBody: the body states an error, or a later page lacks the place that the first page had.
    """
    if page.is_accepted or page.status >= FIRST_ERROR_STATUS:
        return Checked()
    found = _found(compiled, page, body, records, is_tree=is_tree)
    if found == "records" and not (is_tree and not compiled.endpoint.data_selector):
        error = error_beside_data(body)
        return Checked(True, partial=_PARTIAL.format(error) if error else "")
    if is_tree and is_empty_list(body):
        return Checked(True, is_empty=True)
    error = stated_xml_error(body) if is_tree else "" if found == "records" else stated_error(body, found)
    if error:
        raise BrokenBody(f"the response states an error: {error}")
    is_later = bool((payload.get("walk") or {}).get("matched"))
    if found in ("missing", "body") and is_later and not states_what_follows():
        place = (
            f"data_selector {compiled.endpoint.data_selector}" if compiled.presence else "the list of records"
        )
        raise BrokenBody(
            f"{place} matches on the first page but not on page {payload.get('page', 1)}; the response "
            f"{description(body)}. If the server ends its pages like this, say so with `stop_when`"
        )
    # A later page without the list, but with a next link, has no records: it is not a record itself.
    return Checked(found in ("records", "empty"), is_empty=found == "body" and is_later)


def _found(compiled: CompiledResource, page: Page, body: Any, records: list[Any], *, is_tree: bool) -> Found:
    if body is None:
        return "empty" if page.status == HTTPStatus.NO_CONTENT else "missing"
    if compiled.endpoint.key_as and not compiled.endpoint.data_selector:
        return "body"
    if compiled.endpoint.data_selector:
        if not records and compiled.presence is not None and compiled.presence(body) is None:
            return "missing"
    elif not is_tree and len(records) == 1 and records[0] is body:
        keys = [name for name, _ in compiled.key_paths]
        if not keys or not isinstance(body, Mapping) or not all(name in body for name in keys):
            return "body"
    return "records" if records else "empty"
