"""The cases of the quota benchmark: a server, the configured limits, and the targets of the figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quota_figures import counts

WINDOWS = 10  # counted in the figures
TRIP_SHARE = 200  # a round trip of at most window/200 costs at most half a percent of the quota
USED_SMALL = 75.0
LIST_MAX = 900  # items of a list: all are pushed in one call, so that their ids follow the order of the list
OVERHEAD_MS = 3  # per request, of the client and the server


@dataclass(frozen=True)
class Size:
    """`window_s` and `limit` of the servers; `way_ms`: the longest travel time in each direction."""

    window_s: float
    limit: int
    way_ms: float
    small: bool = False

    def used(self, promised: float) -> float:
        """Return the target share in %: in windows of one second, each stall of the machine costs some percent."""
        return min(promised, USED_SMALL) if self.small else promised

    @property
    def items(self) -> int:
        """The number of items, enough for more than the counted windows."""
        return self.limit * WINDOWS + self.limit // 2

    @property
    def counted_s(self) -> float:
        return self.window_s * WINDOWS


SMALL, FULL = Size(1.0, 40, 1.0, small=True), Size(10.0, 300, 10.0)


@dataclass(frozen=True)
class Figure:
    """One figure: `reach` is `>=` or `<=`, the comparison with `promised`, its target; None: no target."""

    name: str
    value: float
    unit: str = ""
    reach: str = ""
    promised: float | None = None

    @property
    def reached(self) -> bool:
        if self.promised is None:
            return True
        return self.value >= self.promised if self.reach == ">=" else self.value <= self.promised


@dataclass
class Result:
    """The result of a run: the server's log, written items, tasks in the order of their grants, exit code, times."""

    log: list[dict[str, Any]]
    items: int
    granted: list[int]
    code: int
    took_s: float
    stalled_s: float  # how late the server's timers were because the machine was busy
    ranks: dict[int, float] = field(default_factory=dict)  # of items, if a list stated them
    before: Result | None = None  # of the run to compare with


@dataclass(frozen=True)
class Case:
    """
    A case of the benchmark.

    Args:
        server: Options of `python -m benchmarks.servers`.
        items: The number of requested items.
        judge: Returns the figures of a result.
        rate_limits: The configured limits.
        listed: The items come from a list with ranks instead of seeds.
        hosts: The number of items of each host; {}: all of the first one.
        compare: The hosts of a run that goes first, for comparison; {}: none.
    """

    server: Mapping[str, Any]
    items: int
    judge: Callable[[Case, Result], list[Figure]]
    rate_limits: list[dict[str, Any]] = field(default_factory=list)
    listed: bool = False
    hosts: Mapping[str, int] = field(default_factory=dict)
    compare: Mapping[str, int] = field(default_factory=dict)


def _delivered(case: Case, result: Result) -> list[Figure]:
    return [
        Figure("items delivered", result.items, f"of {case.items}", ">=", case.items),
        Figure("exit code", result.code, "", "<=", 0),
    ]


def _refused(result: Result, promised: float) -> Figure:
    share = counts.refused(result.log) / len(result.log) * 100
    return Figure("refused", share, "%", "<=", promised)


def _time(result: Result, ideal_s: float, promised: float | None = None) -> Figure:
    return Figure("time / ideal", counts.span_s(result.log) / ideal_s, "", "<=", promised)


def _closed(log: counts.Log, least_wait_s: float | None = None) -> list[Figure]:
    found = counts.openings(log, least_wait_s)
    return [
        Figure("closings", found["closings"]),
        Figure("early requests", found["early"], "", "<=", 0),
        Figure("requests at an opening", found["most"], "", "<=", 1),
    ]


def _reporting(size: Size, tells: str, shape: str = "fixed") -> Case:
    def judge(case: Case, result: Result) -> list[Figure]:
        if shape == "aligned":  # whole windows of the server's clock
            since_s = size.window_s - result.log[0]["decided_s"] % size.window_s
            whole = WINDOWS - 1
            share = counts.used(result.log, size.window_s * whole, size.limit * whole, since_s) * 100
        else:
            share = counts.kept_up(result.log, size.limit * WINDOWS, size.counted_s) * 100
        ideal_s = (math.ceil(case.items / size.limit) - 1) * size.window_s
        return [
            Figure("used", share, "%", ">=", size.used(95)),
            _refused(result, 0),
            _time(result, ideal_s),
            *_delivered(case, result),
        ]

    return Case(_server(size, shape, tells=tells), size.items, judge)


def _server(size: Size, shape: str, **more: Any) -> dict[str, Any]:
    return {"shape": shape, "limit": size.limit, "window": size.window_s, "way_ms": size.way_ms, **more}


def _configured(size: Size, shape: str, *, promised_refused: float = 0.1, burst: int = 0) -> Case:
    rate: dict[str, Any] = {"limit": size.limit, "interval": f"{size.window_s:g}s"}
    if burst:
        rate["burst"] = burst
    near = 2 * size.way_ms + OVERHEAD_MS <= size.window_s * 1000 / TRIP_SHARE

    def judge(case: Case, result: Result) -> list[Figure]:
        share = counts.used(result.log, size.counted_s, size.limit * WINDOWS + burst) * 100
        return [
            Figure("used", share, "%", ">=", size.used(99 if near else 98.5)),
            _refused(result, promised_refused),
            _time(result, (case.items - max(burst, 1)) / size.limit * size.window_s),
            *_delivered(case, result),
        ]

    more = {"burst": burst} if burst else {}
    rules = [{"name": "core", "rates": [rate]}]
    return Case(_server(size, shape, retry_after=True, **more), size.items, judge, rules)


def _concurrency(size: Size) -> Case:
    places = 16

    def judge(case: Case, result: Result) -> list[Figure]:
        share = counts.busy(result.log, places) * 100
        return [
            Figure("used", share, "%", ">=", size.used(99)),
            _refused(result, 0.1),
            *_delivered(case, result),
        ]

    server = {
        "shape": "concurrency",
        "limit": places,
        "service": 0.2 if size.small else 1.0,
        "retry_after": True,
    }
    rules = [{"name": "core", "max_concurrency": places}]
    return Case({**server, "window": size.window_s}, places * 25, judge, rules)


def _refusing(size: Size) -> Case:
    again_s = math.ceil(size.window_s / 2)

    def judge(case: Case, result: Result) -> list[Figure]:
        late = sorted(
            counts.lateness_s(result.log)[:2]
        )  # later ones grow, because the stated waits are wrong
        return [
            Figure("refused", counts.refused(result.log)),
            *_closed(result.log),
            Figure(
                "reopening, worst", late[-1] * 1000 if late else 0.0, "ms", "<=", None if size.small else 50
            ),
            *_delivered(case, result),
        ]

    server = _server(size, "closed", closed=again_s * 4.5, again=again_s, retry_after=True)
    return Case(server, 1000, judge)


def _first(size: Size) -> Case:
    def judge(case: Case, result: Result) -> list[Figure]:
        accepted = [record["n"] for record in result.log if record["accepted"]]
        ranks = [result.ranks[n] for n in accepted]
        granted = [result.ranks[n] for n in result.granted]
        return [
            Figure("top tenth first", counts.top_tenth_first(granted) * 100, "%", ">=", 100),
            Figure("as the server saw it", counts.top_tenth_first(ranks) * 100, "%"),
            Figure("grants out of order", counts.inversions(granted), "", "<=", 0),
            *_delivered(case, result),
        ]

    items = min(size.limit * 5, LIST_MAX)
    rules = [{"name": "core", "match": {"path": "/item/*"}, "rates": [_rate(size)]}]
    return Case(
        _server(size, "sliding-log", retry_after=True, records=items), items, judge, rules, listed=True
    )


def _rate(size: Size) -> dict[str, Any]:
    return {"limit": size.limit, "interval": f"{size.window_s:g}s"}


def _unknown(size: Size, *, retry_after: bool) -> Case:
    limit, window_s = 30, min(size.window_s, 3.0)
    items = 300 if size.window_s > 1 else 120
    ideal_s = (items / limit - 1) * window_s

    def judge(case: Case, result: Result) -> list[Figure]:
        figures = [Figure("refused", counts.refused(result.log), "", "<=", 3 if retry_after else None)]
        least_wait_s = None if retry_after else 1.0
        return [
            *figures,
            *_closed(result.log, least_wait_s),
            _time(result, ideal_s, 1.05 if retry_after and not size.small else None),
            *_delivered(case, result),
        ]

    server = {"shape": "fixed", "limit": limit, "window": window_s, "way_ms": size.way_ms}
    return Case({**server, "retry_after": retry_after}, items, judge)


def _isolation(size: Size) -> Case:
    """Two open hosts at their configured rate, alone and then beside one that refuses everything for a while."""
    each = size.limit * 5
    counted_s = size.window_s * 4
    open_hosts = {"127.0.0.1": each, "127.0.0.2": each}
    parked = "127.0.0.3"

    def judge(case: Case, result: Result) -> list[Figure]:
        assert result.before is not None
        shares = []
        for host in open_hosts:
            alone, beside = (
                counts.used(
                    [record for record in one.log if record["host"] == host], counted_s, size.limit * 4
                )
                for one in (result.before, result)
            )
            shares.append(beside / alone * 100)
        shut = [record for record in result.log if record["host"] == parked]
        return [
            Figure("rate beside a parked host", min(shares), "% of solo", ">=", size.used(99)),
            *_closed(shut),
            *_delivered(case, result),
        ]

    again_s = math.ceil(counted_s + size.window_s)
    server = _server(
        size, "fixed", retry_after=True, hosts=3, parked_host=parked, closed=again_s - 0.5, again=again_s
    )
    rules = [{"name": "core", "partition_by": ["host"], "rates": [_rate(size)]}]
    hosts = {**open_hosts, parked: 50}
    return Case(server, sum(hosts.values()), judge, rules, hosts=hosts, compare=open_hosts)


def cases(size: Size) -> dict[str, Case]:
    """Return all cases by name."""
    return {
        "told": _reporting(size, "draft-8"),
        "told-epoch": _reporting(size, "x-epoch"),
        "told-aligned": _reporting(size, "draft-6", "aligned"),
        "configured-fixed": _configured(size, "fixed"),
        "configured-sliding": _configured(size, "sliding-log"),
        "two-bucket": _configured(size, "two-bucket", promised_refused=0.2),
        "token-bucket": _configured(size, "token-bucket", burst=size.limit // 5),
        "concurrency": _concurrency(size),
        "closed": _refusing(size),
        "first": _first(size),
        "untold": _unknown(size, retry_after=False),
        "retry-after": _unknown(size, retry_after=True),
        "isolation": _isolation(size),
    }
