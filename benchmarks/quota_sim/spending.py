"""Cases of one steady server whose limit is unknown, reported by its headers, or configured."""

from __future__ import annotations

from benchmarks.quota_figures.cases import Figure
from benchmarks.quota_sim import judging
from benchmarks.quota_sim.cases import (
    LEAKY,
    Case,
    Size,
    ceiling,
    closed_figures,
    one_host,
    percent,
    spending_figures,
    wake_figures,
)
from benchmarks.quota_sim.headers import HEADERS
from benchmarks.quota_sim.shapes import SHAPES
from benchmarks.quota_sim.world import Log, Setting
from scrapeq.plan import LimitRule, Rate

REPORTING = ("draft-6", "draft-8", "x-delta", "x-epoch", "x-epoch-ms", "x-float")
LIES = ("seconds floored", "a second short", "zero")
BARE = ("nothing", "seconds")
REPORTING_SHAPES = ("fixed", "aligned", "sliding log", "token b=q", "token, reset of one")
NOT_UNKNOWN = ("concurrency", "token, reset of one")
CONFIGURED_WINDOWS = 10
NEAR_WAY_S, NEAR_JITTER_S = 0.005, 0.015  # a round trip of at most 50 ms: a two-hundredth of ten seconds


def unknown(size: Size, name: str, telling: str) -> Case:
    """Nothing is configured; refusals state a wait, or not even that."""
    states_wait = telling != "nothing"

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        figures = spending_figures(size, log, states_wait=states_wait, best=ceiling(size, name))
        return [
            *figures,
            *(closed_figures(log, honest=telling not in LIES) if states_wait else []),
            *wake_figures(log),
        ]

    return Case(one_host(size, lambda _: size.shape(name), telling), judge)


def reported(size: Size, name: str, telling: str) -> Case:
    """Nothing is configured; each response reports the remaining budget."""

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        shares = judging.by_window(log.records, size.window_s, size.limit, size.windows)
        if name == "aligned":
            shares = shares[1:]  # the first one begins before the run
        return [
            percent("used", judging.mean(shares), ">=", 95),
            percent("refused", judging.refused_share(log.records), "<=", 0),
            *closed_figures(log)[:2],
            *wake_figures(log),
        ]

    return Case(one_host(size, lambda _: size.shape(name), telling), judge)


def configured(size: Size, name: str, *, near: bool) -> Case:
    """The limit is configured."""
    burst = {"token b=q": size.limit, "token b=q/10": max(1, size.limit // 10), LEAKY: 1}.get(name, 0)
    is_places = name == "concurrency"
    places = max(1, size.limit // 8)
    rule = LimitRule("core", rates=(Rate(size.limit, size.window_s, burst),))
    if is_places:
        rule = LimitRule("core", max_concurrency=places)

    def judge(setting: Setting, log: Log, _: Log | None) -> list[Figure]:
        until_s = size.window_s * CONFIGURED_WINDOWS
        first_s = log.records[0].arrived_s
        counted = [one for one in log.records if one.arrived_s < first_s + until_s]
        if is_places:
            used = judging.busy(log.records, places)
        else:
            quota = size.limit * CONFIGURED_WINDOWS + burst
            used = judging.accepted(counted) / quota
        return [
            percent("used", used, ">=", (99 if near else 98.5) * (1 if near else ceiling(size, name))),
            percent("refused", judging.refused_share(counted), "<=", 0.2 if name == "two-bucket" else 0.1),
            *wake_figures(log),
        ]

    way = {"way_s": NEAR_WAY_S, "jitter_s": NEAR_JITTER_S} if near else {}
    more = {"service_s": size.window_s} if is_places else {}
    made = one_host(
        size,
        lambda _: SHAPES[name](places, size.window_s) if is_places else size.shape(name),
        "seconds",
        server=more,
        rules=[rule],
        until_s=size.window_s * (CONFIGURED_WINDOWS + 1),
        **way,
    )
    return Case(made, judge)


def job(size: Size, name: str, telling: str) -> Case:
    """Three hundred items, ten times a short window's quota, and nothing is configured."""
    short = Size(30, 3.0)
    items = short.limit * 10
    ideal_s = (items / short.limit - 1) * short.window_s
    states_wait = telling != "nothing"

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        found = [one.arrived_s for one in log.records if one.accepted]
        refused = len(log.records) - len(found)
        took_s = max(found) - log.records[0].arrived_s
        return [
            Figure("refused", refused, "", "<=", 3 if states_wait else None),
            Figure("time / ideal", took_s / ideal_s, "", "<=", 1.05 if states_wait else None),
            Figure("items", len(found), f"of {items}", ">=", items),
            *(closed_figures(log) if states_wait else []),
        ]

    made = one_host(
        short,
        lambda _: short.shape(name),
        telling,
        items=items,
        way_s=0.0,
        jitter_s=0.010,
        until_s=ideal_s * 20,
    )
    return Case(made, judge)


def spending(size: Size) -> dict[str, Case]:
    """Return all these cases by name."""
    found: dict[str, Case] = {}
    for name in SHAPES:
        for telling in BARE if name not in NOT_UNKNOWN else ():
            found[f"unknown/{name}/{telling}"] = unknown(size, name, telling)
    for telling in HEADERS:
        if telling in REPORTING:
            for name in REPORTING_SHAPES:
                found[f"told/{name}/{telling}"] = reported(size, name, telling)
        elif telling not in BARE:
            found[f"unknown/fixed/{telling}"] = unknown(size, "fixed", telling)
            found[f"unknown/sliding log/{telling}"] = unknown(size, "sliding log", telling)
    for name in [name for name in SHAPES if name != "token, reset of one"]:
        found[f"configured/{name}"] = configured(size, name, near=False)
        found[f"configured near/{name}"] = configured(size, name, near=True)
    for name in SHAPES:
        for telling in BARE if name not in NOT_UNKNOWN else ():
            found[f"300 items/{name}/{telling}"] = job(size, name, telling)
    return found
