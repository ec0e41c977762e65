"""First pages on their way into the queue: from where the walks before ended, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from scrapeq.protocols import States, WalkStart
from scrapeq.queue.commands import PUSH_COUNT
from scrapeq.task import NewTask

if TYPE_CHECKING:
    from scrapeq.queue import Queue


async def started(states: States, firsts: Sequence[NewTask | WalkStart]) -> list[NewTask | None]:
    """Their tasks, in the same order: a walk's begins where the last one ended, None when nothing is to ask for."""
    walks = [first for first in firsts if isinstance(first, WalkStart)]
    kept = iter(await states.get_many([walk.state_key for walk in walks]) if walks else ())
    return [first.build(next(kept)) if isinstance(first, WalkStart) else first for first in firsts]


async def push_firsts(queue: Queue, states: States, firsts: Iterable[NewTask | WalkStart]) -> int:
    """
    Push first pages, of which any number may come; how many entered the queue.

    Raises:
        UsageError: a seed makes no request.
        QueueFull, StoreError: as `Queue.push_many`.
    """
    pushed, coming = 0, iter(firsts)
    while piece := list(islice(coming, PUSH_COUNT)):
        tasks = [task for task in await started(states, piece) if task is not None]
        pushed += sum(one.outcome == "pushed" for one in await queue.push_many(tasks))
    return pushed
