"""The schedules of a plan over its queue: whose time has come is pushed again, from where its walks ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from scrapeq.errors import UsageError
from scrapeq.plan import Plan, Schedule
from scrapeq.queue import Queue
from scrapeq.queue.keys import key_of
from scrapeq.resource import TaskBuilder, first_pages
from scrapeq.resource.seeds import starts_by_itself
from scrapeq.schedule.due_times import DueTimes
from scrapeq.schedule.recurring import Recurring
from scrapeq.supervise.run_state import RunState
from scrapeq.wiring import cursor_store_of, group_function, push_firsts


def schedules_of(plan: Plan, only: Collection[str] = ()) -> dict[str, Schedule]:
    """The schedules of the resources that start by themselves; of `only` these, if there are any."""
    return {
        resource.name: resource.schedule
        for resource in plan.resources
        if resource.schedule is not None
        and starts_by_itself(resource)
        and (not only or resource.name in only)
    }


def due_times_of(queue: Queue, client: Any) -> DueTimes:
    """When the schedules of a queue are due."""
    return DueTimes(client, key_of(queue.name)[:-1])


def recurring_of(
    plan: Plan, queue: Queue, client: Any, event: Callable[[str], None], only: Collection[str] = ()
) -> Recurring:
    """
    What a scheduler asks for again.

    Args:
        plan: The plan.
        queue: Its queue; a push waits for room there, or raises, as the queue does.
        client: The store's.
        event: Told what was pushed.
        only: These resources alone; empty = all.
    """

    async def push(name: str, occurrence: int) -> None:
        builder = TaskBuilder(await addressed(plan, queue, client), group_function(plan))
        firsts = first_pages(builder, time.time(), [name], occurrence)
        pushed = await push_firsts(queue, cursor_store_of(client, queue), firsts)
        pages = "1 first page" if pushed == 1 else f"{pushed} first pages"
        event(f"due    {name}: {pages if pushed else 'all of it is on its way'}")

    return Recurring(schedules_of(plan, only), due_times_of(queue, client), push)


async def addressed(plan: Plan, queue: Queue, client: Any) -> Plan:
    """
    The plan with the address that `demo://` has in the run that goes on.

    Raises:
        UsageError: no run has begun.
    """
    if not plan.client.base_url.startswith("demo:"):
        return plan
    record = await RunState(client, queue).read()
    if not record.demo_port:
        raise UsageError("the sample API (demo://) has an address only once a run has begun; run first")
    return replace(plan, client=replace(plan.client, base_url=f"http://127.0.0.1:{record.demo_port}/"))


async def start_schedules(
    plan: Plan, state: RunState, queue: Queue, client: Any, *, only: Collection[str], fresh: bool, keep: bool
) -> tuple[int, set[str]]:
    """
    What a run that begins must know of its schedules.

    Args:
        plan: The plan.
        state: The run, which has begun.
        queue: Its queue.
        client: The store's.
        only: These resources alone; empty = all.
        fresh: Whether the run is new.
        keep: Whether it keeps the schedules.

    Returns:
        The number of the occurrence that begins now (0 = nothing has a schedule), and the resources that are due
        later, which it does not ask for now.
    """
    if not schedules_of(plan, only):
        return 0, set()
    occurrence, waiting = await state.occurrence(), set[str]()
    if keep:
        recurring = recurring_of(plan, queue, client, lambda _: None, only)
        found = await recurring.begin(None if fresh else state.record.started_s)
        waiting = found if fresh else waiting  # one that is resumed may have to push the rest of its seeds
    return occurrence, waiting
