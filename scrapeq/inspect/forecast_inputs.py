"""What there is to do by a plan, as work for the simulation: what waits in a store, else first pages."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

from scrapeq.errors import UsageError
from scrapeq.expression import as_text
from scrapeq.expression.template import split_placeholders
from scrapeq.limit import LimitState
from scrapeq.plan import Plan, Resource
from scrapeq.queue import Queue
from scrapeq.resource import first_tasks
from scrapeq.resource.address import join
from scrapeq.resource.seeds import seeds_of
from scrapeq.simulate import Work
from scrapeq.task import DEFAULT_GROUP, Group, Task
from scrapeq.wiring import group_function, with_base_url

Unit = Literal["", "page", "record"]

PIECE = 500  # tasks read in one call
READ_MOST = 20_000  # tasks whose resource is read; of more only their number and priority count
PIECES_MOST = 2000  # pieces of neighbouring priorities, over all groups
PIECES_A_GROUP = 100
SEEDS_LOOKED_AT = 1000  # for the limits of pages that follow
DELAY_STEP_S = 10.0  # delayed tasks that are due so near to each other are one piece
SAMPLE_URL = "http://sample.invalid/"  # where demo:// would be
ANY_VALUE = "0"  # in the place of a value that only a record knows


@dataclass(frozen=True, slots=True)
class Assumed:
    """`count` requests of a resource: in all (unit ""), or for each page or record of its parent."""

    resource: str
    count: float
    unit: Unit = ""


@dataclass
class Undertaking:
    """What there is to do, how that is known, and what had to be assumed, for people."""

    work: list[Work] = field(default_factory=list)
    known: str = ""
    assumed: list[str] = field(default_factory=list)
    limit_states: list[LimitState] = field(default_factory=list)


def seeded(plan: Plan, now_s: float) -> Undertaking:
    """The first pages of a run that begins. Raises UsageError for a seed that makes no request."""
    plan = _addressed(plan)
    counted: Counter[tuple[str, Group, float]] = Counter()
    for task in first_tasks(plan, group_function(plan), now_s):
        counted[(task.payload["resource"], task.group, task.priority)] += 1
    work = [
        Work(group, count, priority, label=resource) for (resource, group, priority), count in counted.items()
    ]
    return Undertaking(work, f"{sum(counted.values()):,} first pages, from the seeds")


def _addressed(plan: Plan) -> Plan:
    return with_base_url(plan, SAMPLE_URL) if plan.client.base_url.startswith("demo:") else plan


# --- what waits in a store


async def waiting(queue: Queue) -> Undertaking | None:
    """The tasks that wait in a queue, and what is known of its limits; None when there are none."""
    counts = await queue.counts()
    if not counts.live:
        return None
    groups = [found async for found in queue.ready_by_group()]
    names = {group.name: group for group, _ in groups}
    undertaking = Undertaking(known=f"{counts.live:,} tasks in the queue")
    few = sum(len(ready) for _, ready in groups) <= READ_MOST
    pieces = max(1, min(PIECES_A_GROUP, PIECES_MOST // max(1, len(groups))))
    for group, ready in groups:
        labels = await _labels(queue, [id_ for id_, _ in ready]) if few else {}
        by_label: dict[str, list[float]] = {}
        for id_, priority in ready:
            by_label.setdefault(labels.get(id_, ""), []).append(priority)
        for label, priorities in by_label.items():
            undertaking.work += _in_pieces(group, label, priorities, pieces)
    others = await _not_ready(queue, counts.delayed + counts.leased)
    undertaking.work += _later(others, names)
    missing = counts.delayed + counts.leased - len(others)
    if missing > 0:
        undertaking.assumed.append(f"{missing:,} delayed tasks are left out: only {READ_MOST:,} are read")
    if counts.leased:
        undertaking.assumed.append(f"{counts.leased:,} tasks under way are counted as if not sent yet")
    instances = await queue.limit_instances()
    for start in range(0, len(instances), PIECE):
        undertaking.limit_states += await queue.limit_states(instances[start : start + PIECE])
    return undertaking


async def _labels(queue: Queue, ids: Sequence[str]) -> dict[str, str]:
    labels = {}
    for start in range(0, len(ids), PIECE):
        for task in await queue.get(*ids[start : start + PIECE]):
            if task is not None:
                labels[task.id] = _resource_of(task)
    return labels


def _resource_of(task: Task) -> str:
    payload = task.payload
    return str(payload.get("resource") or "") if isinstance(payload, Mapping) else ""


def _in_pieces(group: Group, label: str, priorities: list[float], pieces: int) -> Iterable[Work]:
    """Neighbouring priorities together; best first is how they come."""
    size = math.ceil(len(priorities) / pieces)
    for start in range(0, len(priorities), size):
        piece = priorities[start : start + size]
        yield Work(group, len(piece), piece[0], label=label)


async def _not_ready(queue: Queue, wanted: int) -> list[Task]:
    found: list[Task] = []
    for state in ("leased", "delayed"):
        offset = 0
        while len(found) < min(wanted, READ_MOST):
            ids = await queue.ids(state, PIECE, offset)
            if not ids:
                break
            found += [task for task in await queue.get(*ids) if task is not None]
            offset += PIECE
    return found


def _later(tasks: Iterable[Task], groups: Mapping[str, Group]) -> Iterable[Work]:
    counted: Counter[tuple[str, str, float, float]] = Counter()
    for task in tasks:
        due_s = math.ceil(task.due_in_s / DELAY_STEP_S) * DELAY_STEP_S if task.state == "delayed" else 0.0
        counted[(task.group, _resource_of(task), task.priority, max(0.0, due_s))] += 1
    for (group, label, priority, due_s), count in counted.items():
        yield Work(groups.get(group, DEFAULT_GROUP), count, priority, delay_s=due_s, label=label)


# --- what is assumed


def assume(
    plan: Plan,
    undertaking: Undertaking,
    *,
    pages: int | None,
    records: float | None,
    given: Sequence[Assumed],
) -> None:
    """
    Put what nobody knows yet into the work, and say so.

    Args:
        plan: The plan.
        undertaking: Is added to.
        pages: Of each walk of a resource that has pages; None = one.
        records: On a page.
        given: What follows, by resource.

    Raises:
        UsageError: something is assumed of what is not there, or cannot be reckoned.
    """
    plan = _addressed(plan)
    if pages is not None:
        undertaking.work = [_paged(plan, one, pages) for one in undertaking.work]
        undertaking.assumed.append(f"each list of pages has {pages:,} (--pages)")
    elif any(_has_pages(plan, one.label) for one in undertaking.work):
        undertaking.assumed.append("one page is counted of each list: --pages N")
    open_ones = {one.resource: one for one in given}
    while open_ones:
        done = [name for name, one in open_ones.items() if _add(plan, undertaking, one, records, open_ones)]
        if not done:
            name = next(iter(open_ones))
            raise UsageError(f"--assume {name}: its parent's pages are not known; say {name}=N, in all")
        for name in done:
            del open_ones[name]
    counted = {one.label for one in undertaking.work}
    for resource in plan.resources:
        if resource.endpoint is not None and resource.name not in counted and "" not in counted:
            undertaking.assumed.append(
                f"{resource.name} is left out, for only answers tell how many follow: "
                f"--assume {resource.name}=N, or N/page of {resource.parents[0].resource}"
                if resource.parents
                else f"{resource.name} is left out: nothing of it is waiting"
            )


def _has_pages(plan: Plan, label: str) -> bool:
    endpoint = next((one.endpoint for one in plan.resources if one.name == label), None)
    return endpoint is not None and endpoint.paginator.type != "single_page"


def _paged(plan: Plan, work: Work, pages: int) -> Work:
    if work.label and not _has_pages(plan, work.label):
        return work
    bounds = [pages]
    if work.label:
        paginator = plan.resource(work.label).endpoint
        bounds += [paginator.paginator.max_pages or pages] if paginator else []
    return replace(work, pages=min(bounds))


def _add(
    plan: Plan,
    undertaking: Undertaking,
    one: Assumed,
    records: float | None,
    waiting_for: Mapping[str, Assumed],
) -> bool:
    """False when its parent comes first."""
    resource = plan.resource(one.resource)
    own = [work for work in undertaking.work if work.label == resource.name]
    parents = [edge.resource for edge in resource.parents if edge.resource != resource.name]
    above = [work for work in undertaking.work if work.label in parents]
    if not above and any(name in waiting_for for name in parents):
        return False
    if not one.unit:
        if own and not above:
            undertaking.work = [work for work in undertaking.work if work not in own]
            undertaking.work += _spread_over(own, round(one.count))
        else:
            _follow(plan, undertaking, resource, round(one.count), above)
        undertaking.assumed.append(f"{resource.name}: {round(one.count):,} requests in all (--assume)")
        return True
    if not above:
        return False
    each = one.count
    if one.unit == "record":
        if records is None:
            raise UsageError(
                f"--assume {resource.name}={each:g}/record: say how many a page has: --records N"
            )
        each *= records
    total = round(each * sum(work.requests for work in above))
    _follow(plan, undertaking, resource, total, above)
    undertaking.assumed.append(
        f"{resource.name}: {total:,} requests, {one.count:g} for each {one.unit} of {', '.join(parents)} (--assume)"
    )
    return True


def _spread_over(walks: Sequence[Work], requests: int) -> Iterable[Work]:
    """So many requests as pages of these walks, evenly."""
    count = sum(work.count for work in walks)
    pages, longer = divmod(requests, count)
    for work in walks:
        more = min(longer, work.count)
        longer -= more
        if more:
            yield replace(work, count=more, pages=pages + 1)
        if pages and work.count > more:
            yield replace(work, count=work.count - more, pages=pages)


def _follow(
    plan: Plan, undertaking: Undertaking, resource: Resource, requests: int, above: Sequence[Work]
) -> None:
    """Requests that answers bring: under the limits of their address, at the priority of the parents."""
    groups = _groups_of(plan, resource)
    priority = max((work.priority for work in above), default=0.0)
    follows = above[0].label if above else ""
    for at, (group, share) in enumerate(groups):
        before = sum(one for _, one in groups[:at])
        total = sum(one for _, one in groups)
        count = requests * (before + share) // total - requests * before // total
        if count:
            undertaking.work.append(Work(group, count, priority, label=resource.name, follows=follows))


def _groups_of(plan: Plan, resource: Resource) -> list[tuple[Group, int]]:
    """The limits of a resource's requests, with how many seeds lead to each."""
    endpoint = resource.endpoint
    if endpoint is None:
        raise UsageError(f"--assume {resource.name}: it has no endpoint, so it makes no request")
    template = endpoint.url or endpoint.path
    group_of = group_function(plan)
    counted: Counter[Group] = Counter()
    for seed, _ in islice(seeds_of(plan, resource), SEEDS_LOOKED_AT):
        text = ""
        for part in split_placeholders(template.source if template else ""):
            if isinstance(part, str):
                text += part
            else:
                root, _, name = part.source.strip().partition(".")
                text += (as_text(seed.get(name)) if root == "seed" else None) or ANY_VALUE
        url = text if "://" in text else join(plan.client.base_url, text)
        counted[group_of(resource.name, endpoint.method, url, seed, None)] += 1
    return list(counted.items())
