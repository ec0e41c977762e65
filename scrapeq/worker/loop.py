"""
The fetch worker: it pops the tasks that may be sent now, and runs each in a slot.

One process has one worker; its slots are asyncio tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection

import structlog

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import LeaseLost, OutputError, ScrapeqError, StoreDamaged, StoreError
from scrapeq.fetch import Egress
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.plan import Plan
from scrapeq.protocols import CursorStore, Extractor, Sink
from scrapeq.queue import Entry
from scrapeq.queue.commands import BURY, EXTEND, RELEASE
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.resource import GroupOf
from scrapeq.task import Task
from scrapeq.worker.context import Fatal, ItemBound, LeasedTask, Tally, WorkerContext
from scrapeq.worker.settlement import ERROR_MAX_CHARS
from scrapeq.worker.task_run import TaskRun

log = structlog.get_logger("scrapeq.worker")

POP_MAX = 100  # tasks taken in one call
IDLE_S = 10.0
FULL_S = 1.0  # longest sleep of a worker without a free slot


class FetchWorker:
    """
    Runs tasks until it is stopped.

    Args:
        plan: The plan.
        queue: Its queue.
        egress: The one way out.
        extractor: Turns pages into items and follow-ups.
        sink: Where items go; when it returns they are committed.
        group_of: Maps a request to its limits.
        cursor_store: Cursors of incremental resources.
        concurrency: Slots.
        max_requests: Tasks to take, at most; then the run ends.
        max_items: New items to write, at most; then the run ends.
        removed: Resources that the file no longer has; their tasks are dropped.
        clock: Wall time and monotonic time.
        cache: Cached responses; closed at the end.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        queue: WorkerQueue,
        egress: Egress,
        extractor: Extractor,
        sink: Sink,
        group_of: GroupOf,
        cursor_store: CursorStore,
        concurrency: int,
        max_requests: int | None = None,
        max_items: int | None = None,
        removed: Collection[str] = (),
        clock: Clock | None = None,
        cache: ResponseCache | None = None,
    ) -> None:
        self.queue = queue
        self.egress = egress
        self.concurrency = concurrency
        self.max_requests = max_requests
        self.context = WorkerContext(
            plan, queue, egress, extractor, sink, cursor_store, group_of, clock or SystemClock(), cache
        )
        self.context.item_bound = ItemBound(max_items)
        self.context.removed = removed
        self._taken = 0
        # by lease token: the same task may be leased again before this worker knows that it lost it
        self._leased: dict[str, LeasedTask] = {}
        self._slot_freed = asyncio.Event()

    @property
    def tally(self) -> Tally:
        """What it did since it last reported."""
        return self.context.tally

    @property
    def events(self) -> list[str]:
        """Messages for the user, not reported yet."""
        return self.context.events

    @property
    def fatal(self) -> Fatal | None:
        """Why the whole run ends, if it does."""
        return self.context.fatal

    @property
    def in_flight(self) -> int:
        """The number of leased tasks."""
        return len(self._leased)

    def stop(self) -> None:
        """Take no more tasks; those that are leased are finished."""
        self.context.stopping.set()
        self._slot_freed.set()
        self.queue.interrupt()

    async def run(self, grace_s: float = 30.0) -> None:
        """
        Work until `stop`, finish the leased tasks within `grace_s` seconds, and release the rest.

        Raises:
            StoreError: the store stays away.
        """
        extending = asyncio.create_task(self._extend_leases())
        try:
            async with self.egress:
                await self.queue.arrive()  # perhaps in the place of a worker that was killed
                while not self.context.stopping.is_set():
                    await self._fill_slots()
                await self.queue.leave()
                await self._drain(grace_s)
        finally:
            extending.cancel()
            if self.context.cache is not None:
                await self.context.cache.aclose()
            with contextlib.suppress(asyncio.CancelledError):
                await extending

    async def _fill_slots(self) -> None:
        """Pop as many tasks as there are free slots, and wait for a slot or a task."""
        free = self.concurrency - len(self._leased)
        if free <= 0:
            self._slot_freed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._slot_freed.wait(), FULL_S)
            return
        suspects = sum(1 for leased in self._leased.values() if leased.task.expiries)
        if self.max_requests is not None:
            free = min(free, self.max_requests - self._taken)
            if free <= 0:
                self.context.end(Fatal("bound", f"stopped at --max-requests {self.max_requests}"))
                return
        most = min(free, POP_MAX)
        popped = await self.queue.poll(most, suspects=suspects, stay_s=IDLE_S)
        self._taken += len(popped.tasks)
        for task in popped.tasks:
            self._start(task)
        if len(popped.tasks) < most and not self.context.stopping.is_set():
            await self.queue.wait(popped, IDLE_S)

    def _start(self, task: Task) -> None:
        assert task.lease is not None
        leased = LeasedTask(task, task.lease)
        self._leased[leased.lease.token] = leased
        leased.worker = asyncio.create_task(self._run(leased))

    async def _run(self, leased: LeasedTask) -> None:
        try:
            await TaskRun(self.context, leased).run()
        except LeaseLost:
            self.tally.lost += 1
            log.warning("lease lost", task=leased.task.id)
        except asyncio.CancelledError:
            raise
        except OutputError as error:
            self.context.end(Fatal("output", str(error)))
            await self._release(leased)
        except StoreDamaged as error:
            self.context.end(Fatal("store", str(error)))
        except StoreError as error:
            log.error("store error", error=str(error))
        except Exception as error:  # a slot survives any task: it becomes a dead letter with the error
            log.exception("task failed", task=leased.task.id)
            text = f"{type(error).__name__}: {error}"[:ERROR_MAX_CHARS]
            with contextlib.suppress(ScrapeqError):
                await self.queue.settle(Entry(BURY, leased.lease, error=text))
        finally:
            self._leased.pop(leased.lease.token, None)
            self._slot_freed.set()
            if self.fatal is not None:
                self.stop()

    async def _extend_leases(self) -> None:
        """Extend all leases when a third of their time is over."""
        while True:
            await asyncio.sleep(self.queue.lease_s / 3)
            current = [one for one in self._leased.values() if not one.is_over]
            try:
                settled = await asyncio.gather(
                    *(
                        self.queue.settle(Entry(EXTEND, one.lease, delay_s=self.queue.lease_s))
                        for one in current
                    )
                )
            except Exception as error:  # whatever it was, the next round must come
                log.warning("leases not extended", error=str(error))
                continue
            for leased, result in zip(current, settled, strict=True):
                if leased.is_over or leased.lease.token not in self._leased:
                    continue
                if result.outcome == "lost" and leased.worker is not None:
                    leased.worker.cancel()  # another worker has the task: our result could only be refused
                    self.tally.lost += 1

    async def _drain(self, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        while self._leased and time.monotonic() < deadline:
            workers = [leased.worker for leased in self._leased.values() if leased.worker is not None]
            await asyncio.wait(
                workers, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
        left = list(self._leased.values())
        for leased in left:
            if leased.worker is not None:
                leased.worker.cancel()
        for leased in left:
            await self._release(leased)

    async def _release(self, leased: LeasedTask) -> None:
        with contextlib.suppress(ScrapeqError):
            await self.queue.settle(Entry(RELEASE, leased.lease))
