"""The header fields of a simulated server's responses, in the styles of real servers."""

from __future__ import annotations

import math
from collections.abc import Callable
from email.utils import formatdate
from typing import NamedTuple

from benchmarks.servers.shapes import Admission

Headers = list[tuple[str, str]]


class ServerState(NamedTuple):
    """What a server knows when it responds; `clock_s`: its own clock, Unix seconds."""

    admission: Admission
    limit: int
    window_s: float
    clock_s: float

    @property
    def whole_s(self) -> int:
        """The wait rounded up to whole seconds."""
        return math.ceil(self.admission.reset_s)


def _refused(write: Callable[[ServerState], Headers]) -> Callable[[ServerState], Headers]:
    return lambda a: [] if a.admission.accepted else write(a)


def _date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def _x(a: ServerState, reset: str) -> Headers:
    return [
        ("X-RateLimit-Limit", str(a.limit)),
        ("X-RateLimit-Remaining", str(a.admission.remaining)),
        ("X-RateLimit-Reset", reset),
    ]


def _draft_8(a: ServerState) -> Headers:
    return [
        ("RateLimit-Policy", f'"default";q={a.limit};w={math.ceil(a.window_s)}'),
        ("RateLimit", f'"default";r={a.admission.remaining};t={a.whole_s}'),
    ]


def _draft_6(a: ServerState) -> Headers:
    return [
        ("RateLimit-Policy", f"{a.limit};w={math.ceil(a.window_s)}"),
        ("RateLimit-Limit", str(a.limit)),
        ("RateLimit-Remaining", str(a.admission.remaining)),
        ("RateLimit-Reset", str(a.whole_s)),
    ]


HEADERS: dict[str, Callable[[ServerState], Headers]] = {
    "nothing": lambda a: [],
    "seconds": _refused(lambda a: [("Retry-After", str(a.whole_s))]),
    "seconds floored": _refused(lambda a: [("Retry-After", str(math.floor(a.admission.reset_s)))]),
    "fractions": _refused(lambda a: [("Retry-After", f"{a.admission.reset_s:.3f}")]),
    "date": _refused(lambda a: [("Retry-After", _date(math.ceil(a.clock_s + a.admission.reset_s)))]),
    "a second short": _refused(lambda a: [("Retry-After", str(max(0, a.whole_s - 1)))]),
    "zero": _refused(lambda a: [("Retry-After", "0")]),
    "doubled lines": _refused(lambda a: [("Retry-After", str(a.whole_s)), ("Retry-After", str(a.whole_s))]),
    "on every 200": lambda a: [("Retry-After", str(a.whole_s))],
    "window": _refused(lambda a: [("Retry-After", str(math.ceil(a.window_s)))]),
    "draft-6": _draft_6,
    "draft-8": _draft_8,
    "x-delta": lambda a: _x(a, str(a.whole_s)),
    "x-epoch": lambda a: _x(a, str(math.ceil(a.clock_s + a.admission.reset_s))),
    "x-epoch-ms": lambda a: _x(a, str(math.ceil((a.clock_s + a.admission.reset_s) * 1000))),
    "x-float": lambda a: _x(a, f"{a.clock_s + a.admission.reset_s:.3f}"),
}


def headers(telling: str, state: ServerState, *, dated: bool = True) -> Headers:
    """Return the header fields of a response."""
    date = [("Date", _date(math.floor(state.clock_s)))] if dated else []
    return [*date, *HEADERS[telling](state)]
