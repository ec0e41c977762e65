"""The cases of the quota benchmark: a server, what the configuration says of its limit, and what must come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quota_figures import counts

WINDOWS = 10  # counted
TRIP_SHARE = 200  # a round trip of at most window/200 costs at most half a percent of the quota
USED_SMALL = 75.0
LIST_MAX = 900  # items of a list: so many are pushed in one call, and their ids follow its order
OVERHEAD_MS = 3  # of the client and the server themselves, per request


@dataclass(frozen=True)
class Size:
    """`window_s` and `limit` of the servers; `way_ms`: the longest way to a server, and back from it."""

    window_s: float
    limit: int
    way_ms: float
    small: bool = False

    def used(self, promised: float) -> float:
        """The share to be reached, %: in windows of a second each stall of the machine costs percents."""
        return min(promised, USED_SMALL) if self.small else promised

    @property
    def items(self) -> int:
        """Enough that the work does not end within the counted windows."""
        return self.limit * WINDOWS + self.limit // 2

    @property
    def counted_s(self) -> float:
        return self.window_s * WINDOWS


SMALL, FULL = Size(1.0, 40, 1.0, small=True), Size(10.0, 300, 10.0)


@dataclass(frozen=True)
class Figure:
    """One figure: `reach` says `>=` or `<=` what is promised; None = shown only."""

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
    """What came out of one run: the server's log, items written, task order by lease token, exit code, times."""

    log: list[dict[str, Any]]
    items: int
    granted: list[int]
    code: int
    took_s: float
    stalled_s: float  # the server's own timers were late by so much: the machine was busy with other things
    ranks: dict[int, float] = field(default_factory=dict)  # of items, where a list told them
    before: Result | None = None  # of the run it is compared with


@dataclass(frozen=True)
class Case:
    """
    Args:
        server: Options of `python -m benchmarks.servers`.
        items: How many are asked for.
        judge: What came out.
        rate_limits: Of the configuration.
        listed: The items stand in a list with ranks, instead of being seeds.
        hosts: Items of each host that is seeded; {} = all of the first one.
        compare: The run to compare with goes first: hosts of it.
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


def _told(size: Size, tells: str, shape: str = "fixed") -> Case:
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


def _shut(size: Size) -> Case:
    again_s = math.ceil(size.window_s / 2)

    def judge(case: Case, result: Result) -> list[Figure]:
        late = sorted(counts.lateness_s(result.log)[:2])  # later ones grow, for what is told is not kept
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
        accepted = [seen["n"] for seen in result.log if seen["accepted"]]
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
                counts.used([seen for seen in one.log if seen["host"] == host], counted_s, size.limit * 4)
                for one in (result.before, result)
            )
            shares.append(beside / alone * 100)
        shut = [seen for seen in result.log if seen["host"] == parked]
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
    """All cases by name."""
    return {
        "told": _told(size, "draft-8"),
        "told-epoch": _told(size, "x-epoch"),
        "told-aligned": _told(size, "draft-6", "aligned"),
        "configured-fixed": _configured(size, "fixed"),
        "configured-sliding": _configured(size, "sliding-log"),
        "two-bucket": _configured(size, "two-bucket", promised_refused=0.2),
        "token-bucket": _configured(size, "token-bucket", burst=size.limit // 5),
        "concurrency": _concurrency(size),
        "closed": _shut(size),
        "first": _first(size),
        "untold": _unknown(size, retry_after=False),
        "retry-after": _unknown(size, retry_after=True),
        "isolation": _isolation(size),
    }
