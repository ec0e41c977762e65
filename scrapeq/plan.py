"""
The frozen plan: what a configuration file says, as plain values.

`config.load` makes it; every room takes its parts. Nothing here knows YAML, and nothing here acts.
Durations are seconds (`_s`), sizes bytes, expressions are compiled (`Expression`, `Template`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scrapeq.expression import Expression, Template
from scrapeq.limit import Reserve

PaginatorType = Literal["header_link", "page_number", "cursor", "single_page"]
Action = Literal["success", "ignore", "retry", "rate_limited", "dead_letter", "fail"]
OnExceed = Literal["park", "dead_letter", "stop"]
OBSERVED_PARTS = ("limit", "remaining", "used", "reset", "interval", "wait", "cost", "bucket")
ResetFormat = Literal["auto", "delta", "delta_ms", "epoch", "epoch_ms", "http_date", "iso"]


@dataclass(frozen=True, slots=True)
class Redis:
    """Where the store is: `embedded` or a URL; `server` is a path to a server binary, empty = found."""

    url: str = "embedded"
    durability: Literal["fast", "normal", "strict"] = "normal"
    server: str = ""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Order and bound of the queue."""

    order: Literal["strict", "fair"] = "strict"
    max_tasks: int = 1_000_000
    on_full: Literal["block", "reject"] = "block"


@dataclass(frozen=True, slots=True)
class Run:
    """How many fetcher processes, slots in each, and seconds to drain."""

    workers: int = 2
    concurrency: int = 32
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Auth:
    """Credentials. Values are secrets: never shown (`repr` leaves them out)."""

    type: Literal["none", "bearer", "api_key", "http_basic"] = "none"
    token: str = field(default="", repr=False)  # bearer; api_key's value; the first of a pool's
    name: str = ""  # api_key: the header, query parameter or cookie
    location: Literal["header", "query", "cookie"] = "header"
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tokens: tuple[str, ...] = field(default=(), repr=False)  # a pool; the one that has room is sent


@dataclass(frozen=True, slots=True)
class Client:
    """How requests are sent."""

    base_url: str = ""  # without "${...}"; "demo://" = the sample API
    user_agent: str = ""  # empty = scrapeq/<version>
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 30.0
    max_body_size: int = 64_000_000
    auth: Auth = Auth()
    allow_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """
    What a rule is for; an empty part matches everything, parts are joined by and, values in one by or.

    `status` holds numbers and classes ("5xx"); `host` and `path` are globs, or regexes after "re:";
    `exception` holds timeout, connection, bad_answer, too_large; `when` is an expression over the answer.
    """

    resource: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    status: tuple[int | str, ...] = ()
    exception: tuple[str, ...] = ()
    when: Expression | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """
    `limit` requests in `interval_s` seconds; `burst`: a token bucket of that size.

    `aligned`: counted in calendar windows of this time zone (`UTC`, or an IANA name); empty = in any window.
    """

    limit: float
    interval_s: float
    burst: int | None = None
    aligned: str = ""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a request costs that `match` holds for: a number, or an expression over it and its answer."""

    match: Match
    weight: Expression | float


@dataclass(frozen=True, slots=True)
class Observe:
    """
    How answers are read for one limit: a preset by name, and expressions over the answer in place of its parts.

    `limit`, `remaining`, `used` and `cost` are numbers; `reset` is a time in `reset_format`; `interval` (the window)
    and `wait` are seconds or durations; `bucket` is a name. A null leaves that part to the preset.
    """

    preset: str = "auto"  # a name of limits.presets; none: nothing is read but the expressions
    limit: Expression | None = None
    remaining: Expression | None = None
    used: Expression | None = None
    reset: Expression | None = None
    interval: Expression | None = None
    wait: Expression | None = None
    cost: Expression | None = None
    bucket: Expression | None = None
    reset_format: ResetFormat | None = None  # None: the preset's

    def written(self) -> dict[str, str]:
        """As a file says it."""
        parts = {part: getattr(self, part) for part in OBSERVED_PARTS}
        said = {part: one.source for part, one in parts.items() if one is not None}
        if self.preset != "auto" or not (said or self.reset_format):
            said = {"preset": self.preset, **said}
        return {**said, "reset_format": self.reset_format} if self.reset_format else said


@dataclass(frozen=True, slots=True)
class LimitRule:
    """
    A limit of the file; `partition_by` says which requests share one instance of it.

    `observe` says how answers tell of it; with "none" it never listens. `weights`: the first that matches, else 1.
    """

    name: str
    match: Match = Match()
    partition_by: tuple[str, ...] = ("host", "token")  # host token resource seed.x parent.x; () = one for all
    rates: tuple[Rate, ...] = ()
    max_concurrency: int | None = None
    observe: Observe | Literal["none"] = Observe()
    weights: tuple[Weight, ...] = ()
    reserve: Reserve | None = None


@dataclass(frozen=True, slots=True)
class Exponential:
    """A wait that doubles from `base_s` to `max_s` with each refusal in a row."""

    base_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class ResponseAction:
    """
    What an answer means when `match` holds.

    `wait`: the first term that is not null counts; a term is an expression (seconds), seconds, or exponential.
    `scope`: task, limit, host, token, all, or a limit's name.
    """

    match: Match
    action: Action
    scope: str = "limit"
    wait: tuple[Expression | float | Exponential, ...] = ()
    max_wait_s: float | None = None
    on_exceed: OnExceed = "park"
    message: Template | None = None


@dataclass(frozen=True, slots=True)
class Paginator:
    """
    How the next page is found.

    header_link: `links_next_key`. page_number: `base_page`, `page_param`, `total_path`, `maximum_page`.
    cursor: `cursor_path`, `cursor_param`. `has_more_path` ends any of them when it is false.
    """

    type: PaginatorType = "single_page"
    stop_when: Expression | None = None
    max_pages: int | None = None
    stop_after_empty_page: bool | None = None  # None: a page_number walk stops there, the others go on
    has_more_path: str = ""
    priority: Expression | None = None
    links_next_key: str = "next"
    base_page: int = 1
    page_param: str = "page"
    total_path: str = ""
    maximum_page: int | None = None
    cursor_path: str = ""
    cursor_param: str = "cursor"


@dataclass(frozen=True, slots=True)
class Parent:
    """One edge of the tree: once per record of `resource`, or per element of its `each`."""

    resource: str
    each: str = ""  # a path into the parent's record
    when: Expression | None = None
    priority: Expression | None = None


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
    decoder: Literal["auto", "json", "jsonl", "text"] = "auto"
    data_selector: str = ""  # JMESPath, or JSONPath when it begins with "$"; "" = the usual places
    paginator: Paginator = Paginator()


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of page or record. No endpoint: elements inside the parent's record, no request."""

    name: str
    endpoint: Endpoint | None = None
    parents: tuple[Parent, ...] = ()
    seeds: tuple[Mapping[str, Any], ...] = ()  # its own; empty = the file's
    primary_key: tuple[str, ...] = ()
    include_from_parent: tuple[str, ...] = ()
    record_filter: Expression | None = None
    fields: Mapping[str, str | Expression] = field(default_factory=dict)  # name -> path, or value
    priority: Expression | None = None
    selected: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """Where items go. `path` may hold ${resource}; `resources` empty = all."""

    type: Literal["jsonl"]
    path: Template
    resources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """One file, ready to run."""

    name: str
    file: str
    redis: Redis = Redis()
    queue: QueueSettings = QueueSettings()
    run: Run = Run()
    client: Client = Client()
    rate_limits: tuple[LimitRule, ...] = ()
    response_actions: tuple[ResponseAction, ...] = ()
    seeds: tuple[Mapping[str, Any], ...] = ()
    resources: tuple[Resource, ...] = ()
    outputs: tuple[Output, ...] = ()
    resource_actions: Mapping[str, tuple[ResponseAction, ...]] = field(default_factory=dict)
    # what it was made of, so that another process can make the same
    source: str = field(default="", repr=False)
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def resource(self, name: str) -> Resource:
        """The resource of that name; KeyError if there is none."""
        for candidate in self.resources:
            if candidate.name == name:
                return candidate
        raise KeyError(name)
