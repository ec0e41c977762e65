"""What a simulated server writes into its answers: real header fields, as some server writes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from email.utils import formatdate
from typing import NamedTuple

from benchmarks.servers.shapes import Verdict

Headers = list[tuple[str, str]]


class Answering(NamedTuple):
    """What a server knows as it answers; `clock_s`: its own, Unix seconds."""

    verdict: Verdict
    limit: int
    window_s: float
    clock_s: float

    @property
    def whole_s(self) -> int:
        """The wait in whole seconds that are enough."""
        return math.ceil(self.verdict.reset_s)


def _refused(write: Callable[[Answering], Headers]) -> Callable[[Answering], Headers]:
    return lambda a: [] if a.verdict.accepted else write(a)


def _date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def _x(a: Answering, reset: str) -> Headers:
    return [
        ("X-RateLimit-Limit", str(a.limit)),
        ("X-RateLimit-Remaining", str(a.verdict.remaining)),
        ("X-RateLimit-Reset", reset),
    ]


def _draft_8(a: Answering) -> Headers:
    return [
        ("RateLimit-Policy", f'"default";q={a.limit};w={math.ceil(a.window_s)}'),
        ("RateLimit", f'"default";r={a.verdict.remaining};t={a.whole_s}'),
    ]


def _draft_6(a: Answering) -> Headers:
    return [
        ("RateLimit-Policy", f"{a.limit};w={math.ceil(a.window_s)}"),
        ("RateLimit-Limit", str(a.limit)),
        ("RateLimit-Remaining", str(a.verdict.remaining)),
        ("RateLimit-Reset", str(a.whole_s)),
    ]


TELLINGS: dict[str, Callable[[Answering], Headers]] = {
    "nothing": lambda a: [],
    "seconds": _refused(lambda a: [("Retry-After", str(a.whole_s))]),
    "seconds floored": _refused(lambda a: [("Retry-After", str(math.floor(a.verdict.reset_s)))]),
    "fractions": _refused(lambda a: [("Retry-After", f"{a.verdict.reset_s:.3f}")]),
    "date": _refused(lambda a: [("Retry-After", _date(math.ceil(a.clock_s + a.verdict.reset_s)))]),
    "a second short": _refused(lambda a: [("Retry-After", str(max(0, a.whole_s - 1)))]),
    "zero": _refused(lambda a: [("Retry-After", "0")]),
    "doubled lines": _refused(lambda a: [("Retry-After", str(a.whole_s)), ("Retry-After", str(a.whole_s))]),
    "on every 200": lambda a: [("Retry-After", str(a.whole_s))],
    "window": _refused(lambda a: [("Retry-After", str(math.ceil(a.window_s)))]),
    "draft-6": _draft_6,
    "draft-8": _draft_8,
    "x-delta": lambda a: _x(a, str(a.whole_s)),
    "x-epoch": lambda a: _x(a, str(math.ceil(a.clock_s + a.verdict.reset_s))),
    "x-epoch-ms": lambda a: _x(a, str(math.ceil((a.clock_s + a.verdict.reset_s) * 1000))),
    "x-float": lambda a: _x(a, f"{a.clock_s + a.verdict.reset_s:.3f}"),
}


def headers(telling: str, answering: Answering, *, dated: bool = True) -> Headers:
    """The fields of an answer."""
    date = [("Date", _date(math.floor(answering.clock_s)))] if dated else []
    return [*date, *TELLINGS[telling](answering)]
