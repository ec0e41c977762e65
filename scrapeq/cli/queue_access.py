"""Open the queue of a plan for a command other than `run`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from scrapeq.cli.error_output import FOLDER

if TYPE_CHECKING:
    from scrapeq.plan import Plan
    from scrapeq.queue import Queue

T = TypeVar("T")
UNLIMITED_WIDTH = 0  # a pipe gets whole lines


def with_queue(plan: Plan, work: Callable[[Queue], Awaitable[T]]) -> T:
    """
    Run `work` with the plan's queue and return its result.

    The store is that of the active run; without a run, an embedded store is started for the duration of the work.

    Raises:
        StoreError: The store cannot be used.
    """
    return with_store(plan, lambda queue, _: work(queue))


def with_store(plan: Plan, work: Callable[[Queue, Any], Awaitable[T]], *, define: bool = True) -> T:
    """As `with_queue`, with the store's client too. Without `define` the limits in the store stay unchanged."""
    import asyncio

    from scrapeq.store.open_queue import open_store_queue

    async def open_and_work() -> T:
        async with open_store_queue(plan, FOLDER, define=define) as (queue, client):
            return await work(queue, client)

    return asyncio.run(open_and_work())


def terminal_width() -> int:
    """Return the columns of the terminal; 0 if standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED_WIDTH
