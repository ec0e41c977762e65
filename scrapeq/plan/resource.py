"""Resources: how their pages are requested, paginated, decoded and extracted, and how tasks are prioritized."""

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
MAX_EMPTY_PAGES = 3
KEPT_BESIDE_CURSOR = ("verb",)  # what OAI-PMH requires beside its exclusive resumption token
FieldType = Literal["", "text", "int", "float", "bool", "time", "json"]


@dataclass(frozen=True, slots=True)
class Paginator:
    """
    How to find the next page of a page sequence.

    `type` is one of PAGINATORS, or the name of an entry point of the group `scrapeq.paginators`, which receives
    `options`. The value of a cursor, page or offset is sent in the `…_param`, the `…_header` or at the `…_body_path`
    that is set; `…_body_path` is a dotted path into the JSON or form body.

    The types and their keys:
        json_link: `next_url_path`, the path of the next URL in the body.
        header_link: `links_next_key`, the relation in the Link header; any other `link_header` holds the URL itself.
        header_cursor: `cursor_key`, the response header with the next cursor.
        cursor: `cursor_path`, the path of the next cursor; the members of an object become parameters. With
            `exclusive`, the next request has no other parameters than the cursor and `keep_params`.
        offset: `offset` (the first one), `limit` (records per page), `total_path`, `maximum_offset`.
        page_number: `base_page`, `page_path` (the response's own page number), `total_path` (the number of pages),
            `maximum_page`.

    Attributes:
        implied: The file names no paginator. The pages of a list are followed, those of a single record are not.
        has_more_path: The page sequence ends where this value is false, whatever the type.
        fan_out: Request all pages at once, as soon as their number is known.
    """

    type: str = "single_page"
    implied: bool = False
    stop_when: Expression | None = None
    max_pages: int | None = None
    stop_after_empty_page: bool | None = None  # None: page_number and offset stop, others continue
    max_empty_pages: int = (
        MAX_EMPTY_PAGES  # pages in a row without a new record before the page sequence is cut
    )
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
    exclusive: bool | None = None  # None: only the resumption token of OAI-PMH is
    keep_params: tuple[str, ...] = KEPT_BESIDE_CURSOR
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
    """One edge of the resource tree: one request per record of `resource`, or per element of `each`."""

    resource: str
    each: str = ""  # path of a list in the parent's record
    when: Expression | None = None
    priority: Expression | None = None


@dataclass(frozen=True, slots=True)
class Decoder:
    """
    How to decode a response body.

    Attributes:
        delimiter: The separator of csv and tsv; empty = a comma for csv, a tab for tsv.
        header: None = the first line; "none" = the first line is a record; names of the columns of such a file.
        skip_lines: Lines before the header, or before the first record.
        quoting: Whether quotes around a cell are syntax; None = in csv, not in tsv.
        files: The files to read in a zip file, as a glob; empty = the only one.
        encoding: Overrides the encoding that the response declares.
        compression: Compression of the file itself, in addition to that of the HTTP transfer.
    """

    type: Literal["auto", "json", "jsonl", "csv", "tsv", "xml", "text"] = "auto"
    delimiter: str = ""
    encoding: str = ""
    compression: Literal["", "gzip", "zip", "bz2", "xz", "zstd"] = ""
    header: Literal["none"] | tuple[str, ...] | None = None
    skip_lines: int = 0
    quoting: bool | None = None
    files: str = ""


@dataclass(frozen=True, slots=True)
class Incremental:
    """
    Requests only what is new since the last completed page sequence.

    Attributes:
        cursor_path: Path in a record; the highest value is stored as the cursor.
        initial_value: The cursor of the first run.
        lookback_s: Subtracted from the stored cursor.
        step_s: Length of the consecutive time windows in which the data is requested; None for one request.
        token_path: Path in the body; the value on the last page is stored.
        cursor_format: The form of times in `cursor_path`, as in strptime; empty = one of those that are recognized.
    """

    cursor_path: str = ""
    initial_value: Any = None
    lookback_s: float = 0.0
    step_s: float | None = None
    token_path: str = ""
    cursor_format: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    The request of a resource.

    `path` is joined to base_url with exactly one "/"; `url` is a full URL. The values of params, headers, json and
    data are templates, plain values, or maps and lists of these.
    """

    path: Template | None = None
    url: Template | None = None
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    data: Any = None
    decoder: Decoder = Decoder()
    data_selector: str = ""  # JMESPath, or JSONPath if it starts with "$"; "" searches the usual keys
    key_as: str = ""  # the records are the values of a map, and this is the field for their names
    columns: str = (
        ""  # the records are lists: the path of their names, or "first_row"; or "lists": a map of columns
    )
    paginator: Paginator = Paginator()
    incremental: Incremental | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """
    One field of an item that needs more than a path or an expression.

    Attributes:
        path: Path in the record; exclusive with `value`.
        value: Expression over the record.
        regex: Replaces the value with the first group, or with the whole match if there is no group.
        all: Keep all matches, as a list.
        type: Type that the value is converted to.
        required: Drop the record if the value is null.
        default: Replaces null: another Field, or a plain value.
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
    """When a resource is requested again: at an interval, or by a cron expression in a time zone."""

    every_s: float | None = None
    cron: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Resource:
    """
    A kind of record, and the request that returns it.

    A resource without an endpoint sends no request: its records are elements of the parent's record. `handler`,
    `on_page` and `on_item` are written `package.module:function` (see `scrapeq.hooks`).
    """

    name: str
    endpoint: Endpoint | None = None
    parents: tuple[Parent, ...] = ()
    seeds: tuple[Mapping[str, Any], ...] = ()  # without any, the seeds of the file apply
    seed_file: str = ""  # absolute path of a csv, jsonl or txt file
    seed_priority: Expression | None = None  # over `seed` and `now`; None: the current time
    primary_key: tuple[str, ...] = ()
    include_from_parent: tuple[str, ...] = ()
    include_from_seed: tuple[str, ...] = ()
    key_scope: Literal["origin", "global"] = "origin"  # global: one key is one record, whatever led to it
    record_filter: Expression | None = None
    fields: Mapping[str, str | Expression | Field] = field(default_factory=dict)  # by name; a str is a path
    priority: Expression | None = None
    selected: bool = True
    schedule: Schedule | None = None
    handler: str = ""
    on_page: str = ""
    on_item: str = ""
