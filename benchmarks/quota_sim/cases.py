"""The cases by name, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.quota_figures.cases import Figure
from benchmarks.quota_sim import judging
from benchmarks.quota_sim.shapes import SHAPES
from benchmarks.quota_sim.world import Host, Log, Setting
from benchmarks.servers.shapes import Shape

HOST = "a.test"
REOPENED_MS = 50
LEAKY = "leaky b=1"


@dataclass(frozen=True)
class Size:
    """A quota, and for how many of its windows a case runs."""

    limit: int = 100
    window_s: float = 10.0
    windows: int = 30

    @property
    def until_s(self) -> float:
        """The end of a run."""
        return self.window_s * self.windows

    def shape(self, name: str, times: float = 1.0) -> Shape:
        """A server's limit of this size, or of so many times it."""
        return SHAPES[name](max(1, round(self.limit * times)), self.window_s)


Judge = Callable[[Setting, Log, Log | None], list[Figure]]
Setup = Callable[[int], Setting]


@dataclass(frozen=True)
class Case:
    """`setting` makes a run from a seed, `judge` says what came out; `before` is run first, to compare with."""

    setting: Setup
    judge: Judge
    before: Setup | None = None


def one_host(
    size: Size,
    shape: Callable[[int], Shape],
    telling: str,
    *,
    server: dict[str, Any] | None = None,
    **more: Any,
) -> Setup:
    """A setting with one server; `shape` makes its limit from a seed."""

    def made(seed: int) -> Setting:
        host = Host(shape(seed), size.limit, size.window_s, telling, **(server or {}))
        return Setting({HOST: host}, seed=seed, **{"until_s": size.until_s, **more})

    return made


def ceiling(size: Size, name: str) -> float:
    """Which share of a leaky bucket can be had without a refusal, where ways differ by J: T/(T+J)."""
    period_s = size.window_s / size.limit
    return period_s / (period_s + Setting({}).jitter_s) if name == LEAKY else 1.0


def percent(name: str, share: float, reach: str = "", promised: float | None = None) -> Figure:
    """A share as a figure."""
    return Figure(name, share * 100, "%", reach, promised)


def closed_well(log: Log, *, honest: bool = True) -> list[Figure]:
    """What came at a closed limit that had told when it opens, `honest`: truly."""
    found = judging.openings(log.seen)
    late_s = judging.percentile(judging.reopening_s(log.seen), 0.99)
    return [
        Figure("early requests", found["early"], "", "<=", 0),
        Figure("requests at an opening", found["most"], "", "<=", 1),
        Figure("reopening p99", late_s * 1000, "ms", "<=", REOPENED_MS if honest else None),
    ]


def woken_well(log: Log) -> list[Figure]:
    """How often a fetcher woke for nothing."""
    return [
        percent("wake-ups for nothing", judging.empty_share(log), "<=", 5),
        percent("empty pops", log.empty / log.pops if log.pops else 0.0),
    ]


def spent(size: Size, log: Log, *, says: bool, best: float = 1.0) -> list[Figure]:
    """How an unknown limit was found and used; `best`: the share of it that can be had."""
    seen = log.seen
    shares = judging.by_window(seen, size.window_s, size.limit, size.windows)
    late = seen_after(size, log)
    return [
        percent("used", judging.mean(shares)),
        Figure(
            "windows to 90 %",
            judging.to_well_used([share / best for share in shares]),
            "",
            "<=",
            5 if says else 10,
        ),
        percent(
            "used after window 10", judging.mean(shares[judging.LEARNED :]), ">=", (97 if says else 90) * best
        ),
        percent("refused", judging.refused_share(seen), "<=", 1.5 if says else 3),
        percent("refused after window 10", late, "<=", 0.3 if says else None),
    ]


def seen_after(size: Size, log: Log) -> float:
    """The refused share after the windows that learning may take."""
    first_s = log.seen[0].arrived_s if log.seen else 0.0
    return judging.refused_share(log.seen, first_s + size.window_s * judging.LEARNED)
