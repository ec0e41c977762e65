"""Cases of servers that punish, change or forget, of wrong clocks, of a killed fetcher, and of other clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.quota_figures.cases import Figure
from benchmarks.quota_sim import judging
from benchmarks.quota_sim.cases import (
    HOST,
    Case,
    Size,
    closed_figures,
    one_host,
    percent,
    spending_figures,
    wake_figures,
)
from benchmarks.quota_sim.shapes import Banning, Changing, Doubling, Extending, Outage, Shared
from benchmarks.quota_sim.world import PHASE_S, Log, Setting
from benchmarks.servers.shapes import Open, Shape
from scrapeq.plan import LimitRule, Rate

BARE = ("nothing", "seconds")
REFUSALS_TO_BAN = 3
CHANGED = 12  # windows before the limit changes
HOUR_S = 3600.0
TWICE_S = 2.0
CHANGES = {
    "halved": (0.5, 3),
    "doubled": (2.0, 10),
    "restarted": (1.0, 3),
}  # factor, windows to learn the new limit
OTHERS_SHARE = 0.3


def punishing(size: Size, punish: Callable[[Shape], Any], telling: str) -> Case:
    """The server punishes a client that keeps sending; `bans` counts it."""

    def judge(setting: Setting, log: Log, _: Log | None) -> list[Figure]:
        shape: Any = setting.hosts[HOST].shape
        figures = spending_figures(size, log, states_wait=telling != "nothing")
        return [
            Figure("punished", shape.bans, "", "<=", 0 if isinstance(shape, Banning) else None),
            *figures,
            *(closed_figures(log, honest=telling == "seconds") if telling != "nothing" else []),
        ]

    return Case(one_host(size, lambda _: punish(size.shape("fixed")), telling), judge)


def changing(size: Size, name: str, change: str, telling: str) -> Case:
    """The limit changes after some windows."""
    times, promised = CHANGES[change]
    at_s = size.window_s * CHANGED

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        after = [one for one in log.records if one.arrived_s >= at_s]
        windows = size.windows - CHANGED
        shares = judging.by_window(after, size.window_s, size.limit * times, windows)
        known = [one for one in log.records if one.arrived_s >= at_s + promised * size.window_s]
        return [
            Figure("windows to 90 %", judging.to_well_used(shares), "", "<=", promised),
            percent("used from then on", judging.mean(shares[promised:])),
            percent("refused after the change", judging.refused_share(after), "<=", 3),
            percent("refused later", judging.refused_share(known)),
        ]

    def shape(_: int) -> Shape:
        return Changing(size.shape(name), at_s + PHASE_S, size.shape(name, times))

    return Case(one_host(size, shape, telling), judge)


def removed(size: Size, telling: str) -> Case:
    """The limit is removed after some windows."""
    at_s = size.window_s * CHANGED

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        after = [one for one in log.records if one.arrived_s >= at_s]
        shares = judging.by_window(after, size.window_s, size.limit, size.windows - CHANGED)
        doubled = next((n for n, share in enumerate(shares, 1) if share >= 1.8), len(shares) + 1)
        return [
            Figure("windows to twice", doubled, "", "<=", 10),
            Figure("at last, times the old", judging.mean(shares[-2:])),
        ]

    return Case(
        one_host(size, lambda _: Changing(size.shape("fixed"), at_s + PHASE_S, Open()), telling), judge
    )


def outage(size: Size, telling: str, *, at_first: bool) -> Case:
    """The server refuses everything for some windows; its limit stays the same."""
    at_s = 0.0 if at_first else size.window_s * CHANGED
    for_s, again_s = size.window_s * 2.3, size.window_s / 2

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        after = [one for one in log.records if one.arrived_s >= at_s + for_s]
        windows = size.windows - CHANGED - 3
        shares = judging.by_window(after, size.window_s, size.limit, windows)
        return [
            Figure("windows to 90 %", judging.to_well_used(shares), "", "<=", 5 if at_first else 3),
            percent("used from then on", judging.mean(shares)),
            percent("refused later", judging.refused_share(after), "<=", 1.5 if telling != "nothing" else 3),
        ]

    def shape(_: int) -> Shape:
        return Outage(size.shape("fixed"), at_s + PHASE_S, for_s, again_s)

    return Case(one_host(size, shape, telling), judge)


def skewed(size: Size, telling: str, *, client_s: float = 0.0, server_s: float = 0.0) -> Case:
    """The clocks differ; responses have a Date."""
    is_reported = telling not in ("seconds", "date")

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        shares = judging.by_window(log.records, size.window_s, size.limit, size.windows)
        return [
            percent("used", judging.mean(shares), ">=", 95 if is_reported else 90),
            percent("refused", judging.refused_share(log.records), "<=", 0 if is_reported else 1.5),
            Figure("early requests", judging.openings(log.records)["early"], "", "<=", 0),
            Figure(
                "longest silence", judging.silence_s(log.records) / size.window_s, "windows", "<=", TWICE_S
            ),
        ]

    made = one_host(
        size,
        lambda _: size.shape("fixed"),
        telling,
        server={"skew_s": server_s},
        client_skew_s=client_s,
    )
    return Case(made, judge)


def killed(size: Size, rules: list[LimitRule]) -> Case:
    """A fetcher is killed with all its tasks."""

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        shares = judging.by_window(log.records, size.window_s, size.limit, size.windows)
        used = judging.mean(shares[judging.LEARNED :])
        return [
            percent("used after window 10", used, ">=", 98.5 if rules else 97),
            percent("refused", judging.refused_share(log.records), "<=", 0.1 if rules else 1.5),
            percent("worst window", min(shares[1:-1])),
            *wake_figures(log),
        ]

    made = one_host(size, lambda _: size.shape("fixed"), "seconds", kill_s=size.window_s * 3.5, rules=rules)
    return Case(made, judge)


def shared(size: Size, telling: str) -> Case:
    """Other clients use a part of the quota, at random moments."""

    def judge(setting: Setting, log: Log, _: Log | None) -> list[Figure]:
        shape: Any = setting.hosts[HOST].shape
        total = (judging.accepted(log.records) + shape.taken) / (size.limit * size.windows)
        return [
            percent("used by all", total, ">=", 90),
            percent("refused", judging.refused_share(log.records), "<=", 3),
            *(closed_figures(log)[:2] if telling != "nothing" else []),
        ]

    per_s = size.limit * OTHERS_SHARE / size.window_s
    return Case(one_host(size, lambda seed: Shared(size.shape("fixed"), per_s, seed), telling), judge)


def hardships(size: Size) -> dict[str, Case]:
    """Return all these cases by name."""
    window_s = size.window_s
    punishments: dict[str, Callable[[Shape], Any]] = {
        "ban": lambda inner: Banning(inner, REFUSALS_TO_BAN, window_s, window_s * 5),
        "doubling": lambda inner: Doubling(inner, window_s * 64),
        "extended": lambda inner: Extending(inner, window_s / 2),
    }
    found: dict[str, Case] = {}
    for name, punish in punishments.items():
        for telling in (*BARE, "a second short", "zero"):
            found[f"punishing/{name}/{telling}"] = punishing(size, punish, telling)
    for change in CHANGES:
        for name in ("fixed", "sliding log", "token b=q/10"):
            for telling in BARE:
                found[f"{change}/{name}/{telling}"] = changing(size, name, change, telling)
    for telling in BARE:
        found[f"removed/{telling}"] = removed(size, telling)
        found[f"others/{telling}"] = shared(size, telling)
        found[f"outage/{telling}"] = outage(size, telling, at_first=False)
        found[f"outage at first/{telling}"] = outage(size, telling, at_first=True)
    found["others/draft-8"] = shared(size, "draft-8")
    for telling in ("date", "seconds", "x-epoch", "draft-8"):
        for sign, word in ((1, "ahead"), (-1, "behind")):
            found[f"clock {word}/{telling}"] = skewed(size, telling, client_s=sign * HOUR_S)
            found[f"server's clock {word}/{telling}"] = skewed(size, telling, server_s=sign * HOUR_S)
    found["killed/unknown"] = killed(size, [])
    found["killed/configured"] = killed(size, [LimitRule("core", rates=(Rate(size.limit, window_s),))])
    return found
