"""The way of every verb that is no run to the queue of a plan."""

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
PIPED_WIDTH = 0  # no bound: a pipe gets whole lines


def with_queue(plan: Plan, work: Callable[[Queue], Awaitable[T]]) -> T:
    """Work on a plan's queue, in the store of the run that goes on or in one started for this. Raises StoreError."""
    return with_store(plan, lambda queue, _: work(queue))


def with_store(plan: Plan, work: Callable[[Queue, Any], Awaitable[T]], *, define: bool = True) -> T:
    """As `with_queue`, with the store's client too; without `define` the limits stay as they are known there."""
    import asyncio

    from scrapeq.store.open_queue import open_store_queue

    async def visit() -> T:
        async with open_store_queue(plan, FOLDER, define=define) as (queue, client):
            return await work(queue, client)

    return asyncio.run(visit())


def width() -> int:
    """Columns of the terminal; 0 = no bound."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH
