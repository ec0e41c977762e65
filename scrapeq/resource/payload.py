"""The payload of a task: every key that is stored with it, and what the key means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, Required, TypedDict, cast

from scrapeq.errors import UsageError

PAYLOAD_VERSION = 1


class RequestFields(TypedDict):
    """A request before its first redirect."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str | None


class DetectedPaginator(TypedDict, total=False):
    """
    The paginator that `auto` found in the first response.

    A path into the body is a list of keys, list indexes, and `{"rel": "next"}` for the link with that relation.
    """

    type: str  # header_link, json_link, cursor, page_number or offset
    path: list[Any]  # the path to the link or cursor
    header: str  # the response header with the link or cursor, in place of `path`
    place: list[str]  # where the request takes the value: [param, header or body; name]
    exclusive: bool  # cursor: the next request has no other parameters
    base: Any  # page_number, offset: the first number. json_link: the path to the URL that links are relative to
    own: list[Any]  # page_number: the path to the number of the page itself
    pages: list[Any]  # page_number: the path to the number of pages
    pages_header: str  # page_number: the response header with the number of pages
    total: list[Any]  # the path to the number of records
    total_header: str  # the response header with the number of records
    size: int  # page_number: records per page
    limit: int  # offset: records per page, if it differs from the number of records selected
    more: list[Any]  # the path to a flag that is true while pages follow
    last: list[Any]  # the path to a flag that is true on the last page


class PagesAhead(TypedDict, total=False):
    """The numbered pages that are known to follow the next one, so that they are requested even if it dies."""

    place: Required[list[str]]  # where the request takes the number: [param, header or body; name]
    at: Required[int]  # the number of the first of them
    step: Required[int]  # how far two of them are apart
    left: Required[int]  # how many there are
    url: str  # the URL that takes the number, in place of that of the next page


class SeenSample(TypedDict):
    """A sample of the records of a page sequence, to recognize pages that bring no new one."""

    level: int  # the sample has the records whose hash ends in this many zero bits
    hashes: str  # their hashes: 32 bits each, little-endian, in Base64
    hits: int  # records of the sample that came back in a row without a new one


class PaginationState(TypedDict, total=False):
    """What one page hands to the next. Its size is bounded, whatever the number of pages."""

    seen: str  # fingerprint of an earlier request, to detect loops
    same: str  # fingerprint of the previous page's records, to detect a server that ignores the page number
    own: Mapping[str, Any]  # what the paginator remembers (`Change.remember`)
    auto: DetectedPaginator  # what `paginator: auto` found in the first response
    until: int  # fan_out: the number of the last page requested at once
    empty: int  # consecutive pages without a new record
    count: int  # records of the pages so far
    size: int  # records of the first page
    more: bool  # a flag on an earlier page said that more pages follow
    ended: bool  # an earlier page stated that nothing follows it
    sample: SeenSample  # records of the earlier pages
    headers: list[str]  # names of the headers that the paginator sets; they are part of the task's key
    ahead: PagesAhead  # what is known to follow this page
    matched: bool  # whether the data_selector matched on the first page, so that later it must, too
    incomplete: bool  # an earlier page is missing or had errors: the end of the pagination is not the end of all pages
    guess: bool  # whether this page may be past the end, so that a 404 ends the pagination


# The functional syntax, because `from` is a keyword.
IncrementalProgress = TypedDict(
    "IncrementalProgress",
    {
        "key": str,  # where the cursor store keeps the final state; empty for a request beside the pagination
        "parent": str,  # label of the parent's record, for the user; empty without one
        "start": Any,  # `incremental.start_value` of this pagination or window
        "end": Any,  # `incremental.end_value`
        "token": Any,  # `incremental.token`: the server's bookmark from the previous run
        "until": NotRequired[float],  # Unix seconds at which the last window ends; only with `step`
        "kept": Any,  # the cursor stored before; between windows, the start of the next one
        "cursor": Any,  # the highest cursor seen so far
        "bookmark": Any,  # the last token seen so far
        "from": NotRequired[list[Any]],  # [cursor, token] stored when the pagination started
        "began": NotRequired[float],  # Unix seconds at which the pagination started
        "form": NotRequired[str],  # the form of times in the records, if it is declared or implied
    },
)
"""How far an incremental pagination has come."""


class Payload(TypedDict, total=False):
    """
    The payload of a task, a JSON object.

    Only `v`, `resource` and `url` are always there: the queue may hold payloads of older versions of scrapeq.
    """

    v: Required[int]  # PAYLOAD_VERSION
    resource: Required[str]  # name of the resource that reads the response
    method: str  # in upper case; GET if missing
    url: Required[str]
    headers: Mapping[str, str]  # without those of the client, which are added when the request is sent
    body: str | None
    seed: Mapping[str, Any]  # the values of the seed that started it all
    parent: Any  # the parent's record or element, reduced to the fields that expressions read
    parent_resource: str | None  # name of the parent's resource
    parents: Mapping[str, Any]  # records further above by resource, reduced in the same way
    depth: int  # number of records between the seed and this request
    page: int  # number of the page, from 1
    walk: PaginationState  # from the second page on
    incremental: IncrementalProgress  # resources with `incremental` only
    occurrence: int  # number of the scheduled run; missing or 0 without a schedule
    chain: str  # identity of the page sequence, in scheduled runs: one of its pages is in the queue at a time
    first: Mapping[str, Any]  # the first page's values of the keys that have changed since (reset_pagination)
    resets: int  # how often reset_pagination has restarted the pagination
    polls: list[Any]  # [how often the response was not ready, seconds waited for it in all]
    hops: int  # redirects followed as tasks of their own
    asked: RequestFields  # the request before the first of these redirects
    cookies: list[Mapping[str, Any]]  # the cookies that these redirects have set


def check_payload(payload: Any) -> Payload:
    """
    Return the payload if this version of scrapeq can read it.

    Raises:
        UsageError: scrapeq did not write it, or a newer version did.
    """
    if not isinstance(payload, dict) or not isinstance(payload.get("resource"), str):
        raise UsageError("the payload was not written by scrapeq: `resource` is missing")
    if payload.get("v") != PAYLOAD_VERSION:
        raise UsageError(
            f"the payload has version {payload.get('v')!r}, but this scrapeq reads version {PAYLOAD_VERSION}"
        )
    if not isinstance(payload.get("url"), str):
        raise UsageError("the payload was not written by scrapeq: `url` is missing")
    return cast(Payload, payload)
