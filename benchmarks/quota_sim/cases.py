"""The cases: which server, what the client knows of it, what must come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.quota_figures.cases import Figure
from benchmarks.quota_sim import judging
from benchmarks.quota_sim.shapes import SHAPES
from benchmarks.quota_sim.telling import TELLINGS
from benchmarks.quota_sim.world import Host, Log, Setting
from benchmarks.servers.shapes import Shape

HOST = "a.test"
TOLD = ("draft-6", "draft-8", "x-delta", "x-epoch", "x-epoch-ms", "x-float")


@dataclass(frozen=True)
class Size:
    """A quota, and for how many of its windows a case runs."""

    limit: int = 100
    window_s: float = 10.0
    windows: int = 30

    @property
    def until_s(self) -> float:
        """The end of a run: requests on their way at first, and the windows."""
        return self.window_s * self.windows


@dataclass(frozen=True)
class Case:
    """`setting` makes a run from a seed; `judge` says what came out of it. `before`: run first, to compare with."""

    setting: Callable[[int], Setting]
    judge: Callable[[Setting, Log, Log | None], list[Figure]]
    before: Callable[[int], Setting] | None = None
    tags: frozenset[str] = field(default=frozenset())


def one_host(
    size: Size, shape: Callable[[], Shape], telling: str, **more: object
) -> Callable[[int], Setting]:
    """A setting with one server."""

    def made(seed: int) -> Setting:
        host = Host(shape(), size.limit, size.window_s, telling)
        return Setting({HOST: host}, until_s=size.until_s, seed=seed, **more)  # type: ignore[arg-type]

    return made


def share(value: float) -> float:
    """As per cent."""
    return value * 100


def unknown(size: Size, name: str, telling: str) -> Case:
    """Nothing is configured; a refusal says when to come back, or not even that."""
    says = telling != "nothing"

    def judge(setting: Setting, log: Log, _: Log | None) -> list[Figure]:
        seen = log.seen
        shares = judging.by_window(seen, size.window_s, size.limit, size.windows)
        learned_s = size.window_s * judging.LEARNED
        late = share(judging.mean(shares[judging.LEARNED :]))
        found = judging.openings(seen)
        figures = [
            Figure("used", share(judging.mean(shares)), "%"),
            Figure("windows to 90 %", judging.to_well_used(shares), "", "<=", 5 if says else 10),
            Figure("used after window 10", late, "%", ">=", 97 if says else 90),
            Figure("refused", share(judging.refused_share(seen)), "%", "<=", 1.5 if says else 3),
            Figure(
                "refused after window 10",
                share(judging.refused_share(seen, learned_s)),
                "%",
                "<=",
                0.3 if says else None,
            ),
        ]
        if says:
            figures += [
                Figure("early requests", found["early"], "", "<=", 0),
                Figure("requests at an opening", found["most"], "", "<=", 1),
                Figure(
                    "reopening p99",
                    judging.percentile(judging.reopening_s(seen), 0.99) * 1000,
                    "ms",
                    "<=",
                    50,
                ),
            ]
        return [*figures, Figure("wake-ups for nothing", share(judging.empty_share(log)), "%", "<=", 5)]

    return Case(one_host(size, lambda: SHAPES[name](size.limit, size.window_s), telling), judge)


def cases(size: Size) -> dict[str, Case]:
    """All cases by name."""
    found: dict[str, Case] = {}
    for name in SHAPES:
        if name == "concurrency":
            continue
        for telling in ("nothing", "seconds"):
            found[f"unknown/{name}/{telling}"] = unknown(size, name, telling)
    for telling in TELLINGS:
        if telling not in TOLD and telling not in ("nothing", "seconds"):
            found[f"unknown/fixed/{telling}"] = unknown(size, "fixed", telling)
            found[f"unknown/sliding log/{telling}"] = unknown(size, "sliding log", telling)
    return found
