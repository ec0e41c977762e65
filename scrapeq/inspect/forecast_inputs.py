"""Turn a plan into work for the simulation: the tasks in its queue, or else the first pages of its seeds."""

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

BATCH = 500  # tasks read in one call
READ_MAX = 20_000  # tasks whose payload is read; of further ready tasks only number and priority are known
CHUNKS_MAX = 2000  # chunks of tasks with similar priorities, over all groups
CHUNKS_PER_GROUP = 100
SEEDS_READ = 1000  # seeds of which the limits of a child resource are derived
DELAY_STEP_S = 10.0  # delayed tasks that are due within the same step form one chunk
SAMPLE_URL = "http://sample.invalid/"  # stands for demo://, which has a URL only during a run
ANY_VALUE = "0"  # stands for a value in a path that only a record provides


@dataclass(frozen=True, slots=True)
class Assumption:
    """`count` requests of a resource: in total (unit ""), or for each page or record of its parent."""

    resource: str
    count: float
    unit: Unit = ""


@dataclass
class Workload:
    """
    The work to simulate.

    Attributes:
        work: The requests, in chunks.
        known: Where the work comes from, for the user.
        assumed: What had to be assumed, for the user.
        limit_states: The state of the limits in the store.
    """

    work: list[Work] = field(default_factory=list)
    known: str = ""
    assumed: list[str] = field(default_factory=list)
    limit_states: list[LimitState] = field(default_factory=list)


def seeded_work(plan: Plan, now_s: float) -> Workload:
    """Return the first pages of a new run. Raises UsageError if a seed does not make a request."""
    plan = _with_sample_url(plan)
    counts: Counter[tuple[str, Group, float]] = Counter()
    for task in first_tasks(plan, group_function(plan), now_s):
        counts[(task.payload["resource"], task.group, task.priority)] += 1
    work = [
        Work(group, count, priority, label=resource) for (resource, group, priority), count in counts.items()
    ]
    return Workload(work, f"{_counted(sum(counts.values()), 'first page')}, from the seeds")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _with_sample_url(plan: Plan) -> Plan:
    return with_base_url(plan, SAMPLE_URL) if plan.client.base_url.startswith("demo:") else plan


# --- tasks in a store


async def queued_work(queue: Queue) -> Workload | None:
    """Return the tasks of a queue and the state of its limits; None if the queue is empty."""
    counts = await queue.counts()
    if not counts.live:
        return None
    groups = [found async for found in queue.ready_by_group()]
    by_name = {group.name: group for group, _ in groups}
    workload = Workload(known=f"{_counted(counts.live, 'task')} in the queue")
    read_labels = sum(len(ready) for _, ready in groups) <= READ_MAX
    chunks = max(1, min(CHUNKS_PER_GROUP, CHUNKS_MAX // max(1, len(groups))))
    for group, ready in groups:
        labels = await _labels(queue, [id_ for id_, _ in ready]) if read_labels else {}
        by_label: dict[str, list[float]] = {}
        for id_, priority in ready:
            by_label.setdefault(labels.get(id_, ""), []).append(priority)
        for label, priorities in by_label.items():
            workload.work += _chunks(group, label, priorities, chunks)
    not_ready = await _read_not_ready(queue, counts.delayed + counts.leased)
    workload.work += _delayed_work(not_ready, by_name)
    missing = counts.delayed + counts.leased - len(not_ready)
    if missing > 0:
        workload.assumed.append(
            f"not included: {_counted(missing, 'delayed task')}, since only {READ_MAX:,} are read"
        )
    if counts.leased:
        workload.assumed.append(f"{_counted(counts.leased, 'task')} in flight, counted as not sent yet")
    instances = await queue.limit_instances()
    for start in range(0, len(instances), BATCH):
        workload.limit_states += await queue.limit_states(instances[start : start + BATCH])
    return workload


async def _labels(queue: Queue, ids: Sequence[str]) -> dict[str, str]:
    labels = {}
    for start in range(0, len(ids), BATCH):
        for task in await queue.get(*ids[start : start + BATCH]):
            if task is not None:
                labels[task.id] = _resource_of(task)
    return labels


def _resource_of(task: Task) -> str:
    payload = task.payload
    return str(payload.get("resource") or "") if isinstance(payload, Mapping) else ""


def _chunks(group: Group, label: str, priorities: list[float], chunks: int) -> Iterable[Work]:
    """Yield priorities, which are sorted, in so many chunks; each has its highest priority."""
    size = math.ceil(len(priorities) / chunks)
    for start in range(0, len(priorities), size):
        chunk = priorities[start : start + size]
        yield Work(group, len(chunk), chunk[0], label=label)


async def _read_not_ready(queue: Queue, total: int) -> list[Task]:
    tasks: list[Task] = []
    for state in ("leased", "delayed"):
        offset = 0
        while len(tasks) < min(total, READ_MAX):
            ids = await queue.ids(state, BATCH, offset)
            if not ids:
                break
            tasks += [task for task in await queue.get(*ids) if task is not None]
            offset += BATCH
    return tasks


def _delayed_work(tasks: Iterable[Task], groups: Mapping[str, Group]) -> Iterable[Work]:
    counts: Counter[tuple[str, str, float, float]] = Counter()
    for task in tasks:
        due_s = math.ceil(task.due_in_s / DELAY_STEP_S) * DELAY_STEP_S if task.state == "delayed" else 0.0
        counts[(task.group, _resource_of(task), task.priority, max(0.0, due_s))] += 1
    for (group, label, priority, due_s), count in counts.items():
        yield Work(groups.get(group, DEFAULT_GROUP), count, priority, delay_s=due_s, label=label)


# --- assumptions


def apply_assumptions(
    plan: Plan,
    workload: Workload,
    *,
    pages: int | None,
    records: float | None,
    assumptions: Sequence[Assumption],
) -> None:
    """
    Add the assumed requests to the work, and a line about each assumption.

    Args:
        plan: The plan.
        workload: Is changed.
        pages: Pages of each list of a paginated resource; None = one.
        records: Records per page.
        assumptions: How many requests follow, by resource.

    Raises:
        UsageError: An assumption is about a resource without requests, or lacks a number that it depends on.
    """
    plan = _with_sample_url(plan)
    if pages is not None:
        workload.work = [_with_pages(plan, one, pages) for one in workload.work]
        workload.assumed.append(f"each paginated list has {_counted(pages, 'page')} (--pages)")
    elif any(_is_paginated(plan, one.label) for one in workload.work):
        workload.assumed.append("each paginated list has one page; to assume more: --pages N")
    pending = {one.resource: one for one in assumptions}
    while pending:
        done = [name for name, one in pending.items() if _add(plan, workload, one, records, pending)]
        if not done:
            name = next(iter(pending))
            raise UsageError(
                f"--assume {name}: the pages of its parent are unknown; give the total, {name}=N"
            )
        for name in done:
            del pending[name]
    counted = {one.label for one in workload.work}
    for resource in plan.resources:
        if resource.endpoint is not None and resource.name not in counted and "" not in counted:
            workload.assumed.append(
                f"{resource.name} is not included: its requests follow from responses; "
                f"to include it: --assume {resource.name}=N, or N/page of {resource.parents[0].resource}"
                if resource.parents
                else f"{resource.name} is not included: none of its tasks is in the queue"
            )


def _is_paginated(plan: Plan, label: str) -> bool:
    endpoint = next((one.endpoint for one in plan.resources if one.name == label), None)
    return endpoint is not None and endpoint.paginator.type != "single_page"


def _with_pages(plan: Plan, work: Work, pages: int) -> Work:
    if work.label and not _is_paginated(plan, work.label):
        return work
    endpoint = plan.resource(work.label).endpoint if work.label else None
    max_pages = endpoint.paginator.max_pages if endpoint is not None else None
    return replace(work, pages=min(pages, max_pages or pages))


def _add(
    plan: Plan,
    workload: Workload,
    one: Assumption,
    records: float | None,
    pending: Mapping[str, Assumption],
) -> bool:
    """Add the requests of one assumption; return False if those of its parent have to be added first."""
    resource = plan.resource(one.resource)
    own = [work for work in workload.work if work.label == resource.name]
    parents = [edge.resource for edge in resource.parents if edge.resource != resource.name]
    parent_work = [work for work in workload.work if work.label in parents]
    if not parent_work and any(name in pending for name in parents):
        return False
    if not one.unit:
        if own and not parent_work:
            workload.work = [work for work in workload.work if work not in own]
            workload.work += _distribute(own, round(one.count))
        else:
            _add_children(plan, workload, resource, round(one.count), parent_work)
        workload.assumed.append(
            f"{resource.name}: {_counted(round(one.count), 'request')} in total (--assume)"
        )
        return True
    if not parent_work:
        return False
    per_page = one.count
    if one.unit == "record":
        if records is None:
            raise UsageError(
                f"--assume {resource.name}={per_page:g}/record needs the records per page: --records N"
            )
        per_page *= records
    total = round(per_page * sum(work.requests for work in parent_work))
    _add_children(plan, workload, resource, total, parent_work)
    workload.assumed.append(
        f"{resource.name}: {_counted(total, 'request')}, {one.count:g} per {one.unit} of {', '.join(parents)} "
        "(--assume)"
    )
    return True


def _distribute(lists: Sequence[Work], requests: int) -> Iterable[Work]:
    """Yield the paginated lists with so many requests in total, spread evenly over them as pages."""
    count = sum(work.count for work in lists)
    pages, longer = divmod(requests, count)
    for work in lists:
        more = min(longer, work.count)
        longer -= more
        if more:
            yield replace(work, count=more, pages=pages + 1)
        if pages and work.count > more:
            yield replace(work, count=work.count - more, pages=pages)


def _add_children(
    plan: Plan, workload: Workload, resource: Resource, requests: int, parent_work: Sequence[Work]
) -> None:
    """Add requests that follow from responses: under the limits of their URLs, at the priority of the parents."""
    groups = _groups_of(plan, resource)
    priority = max((work.priority for work in parent_work), default=0.0)
    follows = parent_work[0].label if parent_work else ""
    total = sum(share for _, share in groups)
    before = 0
    for group, share in groups:
        count = requests * (before + share) // total - requests * before // total
        before += share
        if count:
            workload.work.append(Work(group, count, priority, label=resource.name, follows=follows))


def _groups_of(plan: Plan, resource: Resource) -> list[tuple[Group, int]]:
    """Return the groups of a resource's requests, with the number of seeds that lead to each."""
    endpoint = resource.endpoint
    if endpoint is None:
        raise UsageError(
            f"--assume {resource.name}: without an endpoint, this resource does not send requests"
        )
    template = endpoint.url or endpoint.path
    group_of = group_function(plan)
    counts: Counter[Group] = Counter()
    for seed, _ in islice(seeds_of(plan, resource), SEEDS_READ):
        text = ""
        for part in split_placeholders(template.source if template else ""):
            if isinstance(part, str):
                text += part
            else:
                root, _, name = part.source.strip().partition(".")
                text += (as_text(seed.get(name)) if root == "seed" else None) or ANY_VALUE
        url = text if "://" in text else join(plan.client.base_url, text)
        counts[group_of(resource.name, endpoint.method, url, seed, None)] += 1
    return list(counts.items())
