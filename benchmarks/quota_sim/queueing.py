"""Cases of a limit's effect on the queue: a closed limit, a closed one beside open ones, priorities."""

from __future__ import annotations

from benchmarks.quota_figures import counts
from benchmarks.quota_figures.cases import Figure
from benchmarks.quota_sim import judging
from benchmarks.quota_sim.cases import REOPENED_MS, Case, Size, one_host, percent, wake_figures
from benchmarks.quota_sim.world import Host, Log, Setting
from benchmarks.servers.shapes import Closed
from scrapeq.plan import LimitRule, Rate

TASKS = 1000
OPEN_HOSTS = 9
FOREVER_S = 1e9


def closed(size: Size) -> Case:
    """A thousand tasks wait for a limit that first refuses everything, then is open."""
    again_s = round(size.window_s / 2)

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        found = judging.openings(log.records)
        late_s = judging.reopening_s(log.records)[:2]  # a wait that proved wrong three times is lengthened
        return [
            Figure("closings", found["closings"]),
            Figure("refused", len([one for one in log.records if not one.accepted])),
            Figure("early requests", found["early"], "", "<=", 0),
            Figure("requests at an opening", found["most"], "", "<=", 1),
            Figure("reopening, worst", max(late_s, default=0.0) * 1000, "ms", "<=", REOPENED_MS),
            Figure("items", judging.accepted(log.records), "", ">=", TASKS),
            *wake_figures(log),
        ]

    made = one_host(
        size,
        lambda _: Closed(again_s * 4.5, again_s),
        "seconds",
        items=TASKS,
        backlog=TASKS,
        until_s=size.until_s * 10,
    )
    return Case(made, judge)


def isolation(size: Size) -> Case:
    """Nine hosts at their configured rate, alone and beside a host that is always closed."""
    limit = max(1, size.limit // 4)
    rule = LimitRule("core", partition_by=("host",), rates=(Rate(limit, size.window_s),))
    small = Size(limit, size.window_s)
    until_s = size.window_s * 10

    def setting(seed: int, *, beside: bool) -> Setting:
        hosts = {
            f"h{n}.test": Host(small.shape("fixed"), limit, size.window_s, "seconds")
            for n in range(OPEN_HOSTS)
        }
        if beside:
            again_s = round(size.window_s / 2)
            hosts = {
                "closed.test": Host(Closed(FOREVER_S, again_s), limit, size.window_s, "seconds"),
                **hosts,
            }
        return Setting(hosts, rules=[rule], until_s=until_s, seed=seed)

    def judge(_: Setting, log: Log, before: Log | None) -> list[Figure]:
        assert before is not None
        names = [f"h{n}.test" for n in range(OPEN_HOSTS)]
        with_it = judging.by_host(log.records, names)
        solo = judging.by_host(before.records, names)
        rates = list(with_it.values())
        found = judging.openings([one for one in log.records if one.host == "closed.test"])
        jain = sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates))
        return [
            percent("rate beside a closed host", min(with_it[n] / solo[n] for n in names), ">=", 99),
            Figure("Jain", jain, "", ">=", 0.99),
            Figure("early requests", found["early"], "", "<=", 0),
            Figure("requests at an opening", found["most"], "", "<=", 1),
            *wake_figures(log),
        ]

    return Case(lambda seed: setting(seed, beside=True), judge, lambda seed: setting(seed, beside=False))


def first(size: Size) -> Case:
    """Items of different ranks under one configured limit."""
    items = size.limit * 5
    rule = LimitRule("core", rates=(Rate(size.limit, size.window_s),))

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        ranks = [grant.rank for grant in log.grants]
        return [
            Figure("grants out of order", counts.inversions(ranks), "", "<=", 0),
            percent("top tenth first", counts.top_tenth_first(ranks), ">=", 100),
            Figure("items", judging.accepted(log.records), "", ">=", items),
        ]

    made = one_host(
        size,
        lambda _: size.shape("sliding log"),
        "seconds",
        items=items,
        backlog=items,
        ranked=True,
        rules=[rule],
        until_s=size.until_s,
    )
    return Case(made, judge)


def first_of_many(size: Size) -> Case:
    """Items of different ranks from hosts whose unknown limits close and open: each grant must be the best one."""
    limit = max(2, size.limit // 5)
    small = Size(limit, size.window_s)

    def setting(seed: int) -> Setting:
        hosts = {f"h{n}.test": Host(small.shape("fixed"), limit, size.window_s, "seconds") for n in range(4)}
        return Setting(
            hosts, until_s=size.window_s * 10, seed=seed, ranked=True, processes=2, slots=2, check_order=True
        )

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        return [
            Figure("grants", len(log.grants)),
            Figure("grants out of order", log.worse, "", "<=", 0),
        ]

    return Case(setting, judge)


def queueing(size: Size) -> dict[str, Case]:
    """Return all these cases by name."""
    return {
        "closed": closed(size),
        "isolation": isolation(size),
        "first": first(size),
        "first of many": first_of_many(size),
    }
