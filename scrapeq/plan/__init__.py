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
class Output:
    """
    Where items go.

    `type`: one of OUTPUTS, or the name of an entry point of the group `scrapeq.sinks`, which is given `options`.
    `path` and `table` may hold ${resource} and ${seed.x}; `resources` empty = all. `url` is a secret.
    `write_disposition`: merge keeps the newest of each key; append writes each record once a task that gave it;
    append_changes writes it again only when it changed; "" = the type's own (merge for tables, append for stdout and
    warc, else append_changes).
    A file is closed and a new one begun at `rotate_bytes`, or after `rotate_s` seconds.
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
    """One file, ready to run."""

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
    # what it was made of, so that another process can make the same
    source: str = field(default="", repr=False)
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def resource(self, name: str) -> Resource:
        """The resource of that name; KeyError if there is none."""
        for candidate in self.resources:
            if candidate.name == name:
                return candidate
        raise KeyError(name)
