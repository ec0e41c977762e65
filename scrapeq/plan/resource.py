"""Kinds of pages and records: how each is asked for, read, walked, followed and ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scrapeq.expression import Expression, Template

PAGINATORS = (
    "json_link",
    "header_link",
    "header_cursor",
    "cursor",
    "offset",
    "page_number",
    "single_page",
    "auto",
)
FieldType = Literal["", "text", "int", "float", "bool", "time", "json"]


@dataclass(frozen=True, slots=True)
class Paginator:
    """
    How the next page is found.

    `type`: one of PAGINATORS, or the name of an entry point of the group `scrapeq.paginators`, which is given
    `options`. A cursor, page or offset is put where the one of `…_param`, `…_header`, `…_body_path` that is given
    says; `…_body_path` is a dotted path into the JSON (or form) body.

    json_link: `next_url_path`. header_link: `links_next_key`; a `link_header` other than Link is the address itself.
    header_cursor: `cursor_key` (a header of the answer).
    cursor: `cursor_path`; an object's members become parameters. offset: `offset` (the first), `limit` (the page's
    size), `total_path`, `maximum_offset`. page_number: `base_page`, `page_path` (where the answer says its own
    number), `total_path` (how many pages), `maximum_page`.
    `implied`: nobody wrote it; what it finds on a list is walked, and what stands for one record alone is not.
    `has_more_path` ends any of them when it is false. `fan_out`: all pages at once, where the count is known.
    """

    type: str = "single_page"
    implied: bool = False
    stop_when: Expression | None = None
    max_pages: int | None = None
    stop_after_empty_page: bool | None = None  # None: walks by number or offset stop there, the others go on
    has_more_path: str = ""
    priority: Expression | None = None
    fan_out: bool = False
    next_url_path: str = ""
    links_next_key: str = "next"
    link_header: str = "Link"
    cursor_key: str = ""
    cursor_path: str = ""
    cursor_param: str = ""
    cursor_header: str = ""
    cursor_body_path: str = ""
    base_page: int = 1
    page_param: str = ""
    page_header: str = ""
    page_body_path: str = ""
    page_path: str = ""
    total_path: str = ""
    maximum_page: int | None = None
    limit: int | None = None
    offset: int = 0
    offset_param: str = ""
    offset_header: str = ""
    offset_body_path: str = ""
    limit_param: str = ""
    limit_header: str = ""
    limit_body_path: str = ""
    maximum_offset: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parent:
    """One edge of the tree: once per record of `resource`, or per element of its `each`."""

    resource: str
    each: str = ""  # a path into the parent's record
    when: Expression | None = None
    priority: Expression | None = None


@dataclass(frozen=True, slots=True)
class Decoder:
    """How a body is read. `delimiter`: csv; `encoding` wins over the declared one; `compression` of the file itself."""

    type: Literal["auto", "json", "jsonl", "csv", "xml", "text"] = "auto"
    delimiter: str = ","
    encoding: str = ""
    compression: Literal["", "gzip", "zip", "bz2", "xz", "zstd"] = ""


@dataclass(frozen=True, slots=True)
class Incremental:
    """
    Only what is new since the last walk that ended.

    `cursor_path`: into a record; the highest value is kept. `token_path`: into the body; the last page's is kept.
    `step_s`: asked for in windows of that length, one after the other. `lookback_s` is taken off what was kept.
    """

    cursor_path: str = ""
    initial_value: Any = None
    lookback_s: float = 0.0
    step_s: float | None = None
    token_path: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    The request of a resource.

    `path` is joined to base_url with exactly one "/", `url` stands alone. Values of params, headers, json and data
    are Templates, plain values, or maps and lists of them.
    """

    path: Template | None = None
    url: Template | None = None
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    data: Any = None
    decoder: Decoder = Decoder()
    data_selector: str = ""  # JMESPath, or JSONPath when it begins with "$"; "" = the usual places
    paginator: Paginator = Paginator()
    incremental: Incremental | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """
    One field of an item, where a path or an expression alone does not say it.

    `path` or `value` gives it; `regex` takes its first group, else the whole match; `all` keeps a list; `type`
    converts; `default` (another Field, or a plain value) stands in for null; a null `required` one drops the record.
    """

    path: str = ""
    value: Expression | None = None
    regex: str = ""
    all: bool = False
    type: FieldType = ""
    required: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When it is asked for again: every so many seconds, or by a cron line in a time zone."""

    every_s: float | None = None
    cron: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Resource:
    """
    A kind of page or record. No endpoint: elements inside the parent's record, no request.

    `handler`, `on_page`, `on_item` are `package.module:function` (see `scrapeq.hooks`).
    """

    name: str
    endpoint: Endpoint | None = None
    parents: tuple[Parent, ...] = ()
    seeds: tuple[Mapping[str, Any], ...] = ()  # its own; without any, the file's
    seed_file: str = ""  # csv, jsonl or txt; absolute
    seed_priority: Expression | None = None  # over `seed` and `now`; None = the time
    primary_key: tuple[str, ...] = ()
    include_from_parent: tuple[str, ...] = ()
    record_filter: Expression | None = None
    fields: Mapping[str, str | Expression | Field] = field(
        default_factory=dict
    )  # name -> path, value, or both
    priority: Expression | None = None
    selected: bool = True
    schedule: Schedule | None = None
    handler: str = ""
    on_page: str = ""
    on_item: str = ""
