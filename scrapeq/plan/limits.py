"""Rate limits and response actions: which requests a limit covers, and what to do with a matching response."""

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
    The condition of a rule. All parts must match; a part matches if one of its values does, or if it is empty.

    `status` holds numbers and classes ("5xx"); `host` and `path` are globs, or regular expressions after "re:";
    `exception` holds timeout, connection, bad_answer, too_large; `when` is an expression over the response.
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
    """The cost of a matching request: a number, or an expression over the request and its response."""

    match: Match
    weight: Expression | float


@dataclass(frozen=True, slots=True)
class Observe:
    """
    How to read the state of a limit from responses: a preset, and expressions that override parts of it.

    `limit`, `remaining`, `used` and `cost` are numbers; `reset` is a time in `reset_format`; `interval` (the window)
    and `wait` are seconds or durations; `bucket` is a name. Where an expression is null, the preset applies.
    """

    preset: str = "auto"  # a name in responses.presets; with "none" only the expressions are read
    limit: Expression | None = None
    remaining: Expression | None = None
    used: Expression | None = None
    reset: Expression | None = None
    interval: Expression | None = None
    wait: Expression | None = None
    cost: Expression | None = None
    bucket: Expression | None = None
    reset_format: ResetFormat | None = None  # None: that of the preset

    def as_written(self) -> dict[str, str]:
        """Return it as it is written in a configuration file."""
        parts = {part: getattr(self, part) for part in OBSERVED_PARTS}
        keys = {part: expression.source for part, expression in parts.items() if expression is not None}
        if self.preset != "auto" or not (keys or self.reset_format):
            keys = {"preset": self.preset, **keys}
        return {**keys, "reset_format": self.reset_format} if self.reset_format else keys


@dataclass(frozen=True, slots=True)
class LimitRule:
    """
    A limit of the configuration file.

    Attributes:
        match: The requests that it limits.
        partition_by: Requests with equal values of these keys share one instance of the limit.
        observe: How to read its state from responses; "none" ignores them.
        weights: The cost of a request: that of the first match, otherwise 1.
        reserve: The part of the quota that only important tasks may use.
    """

    name: str
    match: Match = Match()
    partition_by: tuple[str, ...] = (
        "host",
        "token",
    )  # host token resource seed.x parent.x; () = one instance
    rates: tuple[Rate, ...] = ()
    max_concurrency: int | None = None
    observe: Observe | Literal["none"] = Observe()
    weights: tuple[Weight, ...] = ()
    reserve: Reserve | None = None


@dataclass(frozen=True, slots=True)
class Exponential:
    """A wait that starts at `base_s`, doubles with each consecutive refusal, and is at most `max_s`."""

    base_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class ResponseAction:
    """
    What to do with a matching response.

    Attributes:
        match: The responses that it applies to.
        action: success and ignore end the task. retry charges an attempt. rate_limited closes `scope`. poll repeats
            the request later without charging an attempt; when all waits together exceed `max_wait_s`, `on_exceed`
            applies. refresh_auth renews the credential and repeats the request once. reset_pagination restarts the
            page sequence, a few times at most. dead_letter gives the task up. fail ends the run.
        scope: task, limit, host, token, all, or the name of a limit.
        wait: The first term that is not null applies; a term is an expression (seconds), seconds, or exponential.
        max_wait_s: The longest accepted wait; None accepts any.
        on_exceed: What to do with a longer wait. None: park for rate_limited, otherwise dead_letter.
        message: The reason that a dead letter or the end of the run states.
    """

    match: Match
    action: Action
    scope: str = "limit"
    wait: tuple[Expression | float | Exponential, ...] = ()
    max_wait_s: float | None = None
    on_exceed: OnExceed | None = None
    message: Template | None = None
