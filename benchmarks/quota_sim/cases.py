"""The building blocks of cases: sizes, settings with one server, and common figures."""

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
    """A quota, and the number of its windows in a run."""

    limit: int = 100
    window_s: float = 10.0
    windows: int = 30

    @property
    def until_s(self) -> float:
        """The end of a run."""
        return self.window_s * self.windows

    def shape(self, name: str, times: float = 1.0) -> Shape:
        """Return a server's limit of this size, multiplied by `times`."""
        return SHAPES[name](max(1, round(self.limit * times)), self.window_s)


Judge = Callable[[Setting, Log, Log | None], list[Figure]]
Setup = Callable[[int], Setting]


@dataclass(frozen=True)
class Case:
    """A case. `setting` creates a run from a seed, `judge` returns its figures; `before` runs first, for comparison."""

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
    """Return a setting with one server; `shape` creates its limit from a seed."""

    def made(seed: int) -> Setting:
        host = Host(shape(seed), size.limit, size.window_s, telling, **(server or {}))
        return Setting({HOST: host}, seed=seed, **{"until_s": size.until_s, **more})

    return made


def ceiling(size: Size, name: str) -> float:
    """Return the share of a leaky bucket that can be used without refusals if travel times differ by J: T/(T+J)."""
    period_s = size.window_s / size.limit
    return period_s / (period_s + Setting({}).jitter_s) if name == LEAKY else 1.0


def percent(name: str, share: float, reach: str = "", promised: float | None = None) -> Figure:
    """Return a share as a figure."""
    return Figure(name, share * 100, "%", reach, promised)


def closed_figures(log: Log, *, honest: bool = True) -> list[Figure]:
    """Return the figures of a closed limit that stated when it opens; `honest`: correctly."""
    found = judging.openings(log.records)
    late_s = judging.percentile(judging.reopening_s(log.records), 0.99)
    return [
        Figure("early requests", found["early"], "", "<=", 0),
        Figure("requests at an opening", found["most"], "", "<=", 1),
        Figure("reopening p99", late_s * 1000, "ms", "<=", REOPENED_MS if honest else None),
    ]


def wake_figures(log: Log) -> list[Figure]:
    """Return how often a fetcher woke up in vain."""
    return [
        percent("wake-ups for nothing", judging.empty_share(log), "<=", 5),
        percent("empty pops", log.empty / log.pops if log.pops else 0.0),
    ]


def spending_figures(size: Size, log: Log, *, states_wait: bool, best: float = 1.0) -> list[Figure]:
    """Return how an unknown limit was learned and used; `best`: the share of it that is usable."""
    records = log.records
    shares = judging.by_window(records, size.window_s, size.limit, size.windows)
    late = refused_after_learning(size, log)
    return [
        percent("used", judging.mean(shares)),
        Figure(
            "windows to 90 %",
            judging.to_well_used([share / best for share in shares]),
            "",
            "<=",
            5 if states_wait else 10,
        ),
        percent(
            "used after window 10",
            judging.mean(shares[judging.LEARNED :]),
            ">=",
            (97 if states_wait else 90) * best,
        ),
        percent("refused", judging.refused_share(records), "<=", 1.5 if states_wait else 3),
        percent("refused after window 10", late, "<=", 0.3 if states_wait else None),
    ]


def refused_after_learning(size: Size, log: Log) -> float:
    """Return the refused share after the windows that learning may take."""
    first_s = log.records[0].arrived_s if log.records else 0.0
    return judging.refused_share(log.records, first_s + size.window_s * judging.LEARNED)
