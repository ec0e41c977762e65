"""Cases of what a limit does to the queue: a closed one, one beside open ones, and what matters first."""

from __future__ import annotations

from benchmarks.quota_figures import counts
from benchmarks.quota_figures.cases import Figure
from benchmarks.quota_sim import judging
from benchmarks.quota_sim.cases import REOPENED_MS, Case, Size, one_host, percent, woken_well
from benchmarks.quota_sim.world import Host, Log, Setting
from benchmarks.servers.shapes import Closed
from scrapeq.plan import LimitRule, Rate

TASKS = 1000
OPEN_HOSTS = 9
FOREVER_S = 1e9


def closed(size: Size) -> Case:
    """A thousand tasks wait for a limit that refuses all; then it is open."""
    again_s = round(size.window_s / 2)

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        found = judging.openings(log.seen)
        late_s = judging.reopening_s(log.seen)[:2]  # what is told thrice in vain is not kept to the letter
        return [
            Figure("closings", found["closings"]),
            Figure("refused", len([one for one in log.seen if not one.accepted])),
            Figure("early requests", found["early"], "", "<=", 0),
            Figure("requests at an opening", found["most"], "", "<=", 1),
            Figure("reopening, worst", max(late_s, default=0.0) * 1000, "ms", "<=", REOPENED_MS),
            Figure("items", judging.accepted(log.seen), "", ">=", TASKS),
            *woken_well(log),
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
    """Nine hosts at their configured rate, alone and beside one that is closed all the time."""
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
        with_it = judging.by_host(log.seen, names)
        solo = judging.by_host(before.seen, names)
        rates = list(with_it.values())
        found = judging.openings([one for one in log.seen if one.host == "closed.test"])
        jain = sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates))
        return [
            percent("rate beside a closed host", min(with_it[n] / solo[n] for n in names), ">=", 99),
            Figure("Jain", jain, "", ">=", 0.99),
            Figure("early requests", found["early"], "", "<=", 0),
            Figure("requests at an opening", found["most"], "", "<=", 1),
            *woken_well(log),
        ]

    return Case(lambda seed: setting(seed, beside=True), judge, lambda seed: setting(seed, beside=False))


def first(size: Size) -> Case:
    """Items of different worth under one configured limit."""
    items = size.limit * 5
    rule = LimitRule("core", rates=(Rate(size.limit, size.window_s),))

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        ranks = [grant.rank for grant in log.grants]
        return [
            Figure("grants out of order", counts.inversions(ranks), "", "<=", 0),
            percent("top tenth first", counts.top_tenth_first(ranks), ">=", 100),
            Figure("items", judging.accepted(log.seen), "", ">=", items),
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
    """Items of different worth of hosts whose limits close and open, unknown: each grant is the best there is."""
    limit = max(2, size.limit // 5)
    small = Size(limit, size.window_s)

    def setting(seed: int) -> Setting:
        hosts = {f"h{n}.test": Host(small.shape("fixed"), limit, size.window_s, "seconds") for n in range(4)}
        return Setting(
            hosts, until_s=size.window_s * 10, seed=seed, ranked=True, processes=2, slots=2, ask_better=True
        )

    def judge(_: Setting, log: Log, __: Log | None) -> list[Figure]:
        return [
            Figure("grants", len(log.grants)),
            Figure("grants out of order", log.worse, "", "<=", 0),
        ]

    return Case(setting, judge)


def queueing(size: Size) -> dict[str, Case]:
    """All of them by name."""
    return {
        "closed": closed(size),
        "isolation": isolation(size),
        "first": first(size),
        "first of many": first_of_many(size),
    }
