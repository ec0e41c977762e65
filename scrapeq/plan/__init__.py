"""
The plan: the contents of a configuration file as immutable dataclasses.

`config.load` creates a plan, and the other packages receive its parts. The classes know nothing of YAML and hold no
behavior. Durations are in seconds (`_s`), sizes in bytes; expressions are compiled (`Expression`, `Template`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scrapeq.expression import Expression, Template
from scrapeq.plan.client import STATIC_AUTHS, TOKEN_AUTHS, Auth, Cache, Client, Login
from scrapeq.plan.limits import (
    OBSERVED_PARTS,
    Action,
    Exponential,
    LimitRule,
    Match,
    Observe,
    OnExceed,
    Rate,
    ResetFormat,
    ResponseAction,
    Weight,
)
from scrapeq.plan.resource import (
    KEPT_BESIDE_CURSOR,
    PAGINATORS,
    Decoder,
    Endpoint,
    Field,
    FieldType,
    Incremental,
    Paginator,
    Parent,
    Resource,
    Schedule,
)

__all__ = [
    "KEPT_BESIDE_CURSOR",
    "OBSERVED_PARTS",
    "OUTPUTS",
    "PAGINATORS",
    "STATIC_AUTHS",
    "TOKEN_AUTHS",
    "Action",
    "Auth",
    "Cache",
    "Client",
    "Decoder",
    "Endpoint",
    "Exponential",
    "Field",
    "FieldType",
    "Incremental",
    "LimitRule",
    "Login",
    "Match",
    "Observe",
    "OnExceed",
    "Output",
    "Paginator",
    "Parent",
    "Plan",
    "QueueSettings",
    "Rate",
    "Redis",
    "ResetFormat",
    "Resource",
    "ResponseAction",
    "Run",
    "Schedule",
    "Weight",
    "WriteDisposition",
]

OUTPUTS = ("jsonl", "csv", "sqlite", "postgres", "parquet", "warc", "stdout")
WriteDisposition = Literal["", "merge", "append", "append_changes"]


@dataclass(frozen=True, slots=True)
class Redis:
    """The store: `embedded` or a URL; `server` is the path of a server binary, empty to search for one."""

    url: str = "embedded"
    durability: Literal["fast", "normal", "strict"] = "normal"
    server: str = ""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The order in which tasks are taken, and what happens when the queue holds `max_tasks` tasks."""

    order: Literal["strict", "fair"] = "strict"
    max_tasks: int = 1_000_000
    on_full: Literal["block", "reject"] = "block"


@dataclass(frozen=True, slots=True)
class Run:
    """Processes of a run and their shutdown."""

    workers: int = 2  # fetcher processes
    concurrency: int = 32  # concurrent requests in each
    grace_s: float = 30.0  # time for requests in flight to finish at shutdown


@dataclass(frozen=True, slots=True)
class Output:
    """
    A destination of items.

    Attributes:
        type: One of OUTPUTS, or the name of an entry point of the group `scrapeq.sinks`, which receives `options`.
        path: The output file or folder; may contain ${resource} and ${seed.x}.
        resources: The resources it receives; empty means all.
        url: URL of a database; a secret.
        table: The table name; may contain ${resource} and ${seed.x}.
        write_disposition: merge keeps the newest record of each key; append writes a record once for each task that
            returned it; append_changes writes a record again only if it changed; "" is the default of the type (merge
            for tables, append for stdout and warc, otherwise append_changes).
        rotate_bytes: Size at which the file is closed and a new one started.
        rotate_s: Age in seconds at which the file is closed and a new one started.
        options: The other keys of an entry point's output.
    """

    type: str
    path: Template | None = None
    resources: tuple[str, ...] = ()
    url: str = field(default="", repr=False)
    table: Template | None = None
    write_disposition: WriteDisposition = ""
    rotate_bytes: int | None = None
    rotate_s: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole configuration file, validated and ready to run."""

    name: str
    file: str
    redis: Redis = Redis()
    queue: QueueSettings = QueueSettings()
    run: Run = Run()
    client: Client = field(default_factory=Client)
    rate_limits: tuple[LimitRule, ...] = ()
    response_actions: tuple[ResponseAction, ...] = ()
    seeds: tuple[Mapping[str, Any], ...] = ()
    seed_file: str = ""
    seed_priority: Expression | None = None
    resources: tuple[Resource, ...] = ()
    outputs: tuple[Output, ...] = ()
    resource_actions: Mapping[str, tuple[ResponseAction, ...]] = field(default_factory=dict)
    # The text of the file and the flags, so that another process can build the same plan.
    source: str = field(default="", repr=False)
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def resource(self, name: str) -> Resource:
        """Return the resource with this name. Raises KeyError."""
        for candidate in self.resources:
            if candidate.name == name:
                return candidate
        raise KeyError(name)
