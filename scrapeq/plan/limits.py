"""Limits, and what answers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scrapeq.expression import Expression, Template
from scrapeq.limit import Rate as Rate
from scrapeq.limit import Reserve

Action = Literal[
    "success",
    "ignore",
    "retry",
    "rate_limited",
    "poll",
    "refresh_auth",
    "reset_pagination",
    "dead_letter",
    "fail",
]
OnExceed = Literal["park", "dead_letter", "stop"]
OBSERVED_PARTS = ("limit", "remaining", "used", "reset", "interval", "wait", "cost", "bucket")
ResetFormat = Literal["auto", "delta", "delta_ms", "epoch", "epoch_ms", "http_date", "iso"]


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

    success and ignore end the task; retry is charged; rate_limited closes `scope`; poll asks again later, uncharged,
    until `max_wait` (of all waits together) meets `on_exceed`; refresh_auth asks for new credentials and sends it
    again, once; reset_pagination begins the walk anew, a few times; fail ends the run.

    `wait`: the first term that is not null counts; a term is an expression (seconds), seconds, or exponential.
    `scope`: task, limit, host, token, all, or a limit's name.
    """

    match: Match
    action: Action
    scope: str = "limit"
    wait: tuple[Expression | float | Exponential, ...] = ()
    max_wait_s: float | None = None
    on_exceed: OnExceed | None = None  # None: park for rate_limited, else dead_letter
    message: Template | None = None
