"""The schedules of a plan: which resources have one, and how a due resource is pushed to the queue again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
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
from scrapeq.wiring import cursor_store_of, group_function, push_first_pages, with_base_url


def schedules_of(plan: Plan, only: Collection[str] = ()) -> dict[str, Schedule]:
    """Return the schedules of the resources that start by themselves; with `only`, of those resources."""
    return {
        resource.name: resource.schedule
        for resource in plan.resources
        if resource.schedule is not None
        and starts_by_itself(resource)
        and (not only or resource.name in only)
    }


def due_times_of(queue: Queue, client: Any) -> DueTimes:
    """Return the stored due times of a queue's schedules."""
    return DueTimes(client, key_of(queue.name)[:-1])


def recurring_of(
    plan: Plan, queue: Queue, client: Any, on_event: Callable[[str], None], only: Collection[str] = ()
) -> Recurring:
    """
    Return the recurring resources of a plan, with a function that pushes their first pages.

    Args:
        plan: The plan.
        queue: Its queue. When it is full a push waits for room or raises, as the queue's policy says.
        client: The client of its store.
        on_event: Takes a sentence for the user about each push.
        only: These resources only; empty = all.
    """

    async def push(name: str, occurrence: int) -> None:
        builder = TaskBuilder(await with_demo_address(plan, queue, client), group_function(plan))
        pages = first_pages(builder, time.time(), [name], occurrence)
        pushed = await push_first_pages(queue, cursor_store_of(client, queue), pages)
        count = "1 first page" if pushed == 1 else f"{pushed} first pages"
        on_event(f"due    {name}: {count if pushed else 'still in progress, nothing pushed'}")

    return Recurring(schedules_of(plan, only), due_times_of(queue, client), push)


async def with_demo_address(plan: Plan, queue: Queue, client: Any) -> Plan:
    """
    Return the plan with the address that the sample API (demo://) has in the current run.

    Raises:
        UsageError: no run has started the sample API yet.
    """
    if not plan.client.base_url.startswith("demo:"):
        return plan
    record = await RunState(client, queue).read()
    if not record.demo_port:
        raise UsageError(
            "client.base_url: the sample API (demo://) is not running yet, so its address is unknown. "
            "Start a run first: `scrapeq run`"
        )
    return with_base_url(plan, f"http://127.0.0.1:{record.demo_port}/")


async def start_schedules(
    plan: Plan, state: RunState, queue: Queue, client: Any, *, only: Collection[str], is_new: bool, keep: bool
) -> tuple[int, set[str]]:
    """
    Prepare the schedules at the start of a run.

    Args:
        plan: The plan.
        state: The state of the run, which has been started or resumed.
        queue: Its queue.
        client: The client of its store.
        only: These resources only; empty = all.
        is_new: Whether the run is new.
        keep: Whether the run keeps the schedules.

    Returns:
        The number of the scheduled run that starts now (0 = no resource has a schedule), and the resources that are
        due later, which the run does not seed now.
    """
    if not schedules_of(plan, only):
        return 0, set()
    number, due_later = await state.scheduled_run(), set[str]()
    if keep:
        recurring = recurring_of(plan, queue, client, lambda _: None, only)
        found = await recurring.start(None if is_new else state.record.started_s)
        if is_new:  # a resumed run may still have to push the rest of its seeds
            due_later = found
    return number, due_later
