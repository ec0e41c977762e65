"""
The fetch worker: pops what may be sent now, sends it, tells the limits what the answer said, writes the items,
acks with what follows. One process has one; its slots are asyncio tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import LeaseLost, OutputError, ScrapeqError, StoreError
from scrapeq.fetch import Egress
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.plan import Plan
from scrapeq.protocols import CursorStore, Extractor, Sink
from scrapeq.queue import Entry
from scrapeq.queue.commands import BURY, EXTEND, RELEASE
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.resource import GroupOf
from scrapeq.task import Task
from scrapeq.worker.context import WorkerContext
from scrapeq.worker.settlement import ERROR_LENGTH
from scrapeq.worker.slots import Fatal, LeasedTask, Tally
from scrapeq.worker.task_run import TaskRun

log = structlog.get_logger("scrapeq.worker")

POP_MAX = 100  # tasks taken in one call
IDLE_S = 10.0
FULL_S = 1.0  # how long a full worker sleeps at most before it looks again


class FetchWorker:
    """
    Args:
        plan: The plan.
        queue: Its queue.
        egress: The one way out.
        extractor: Turns pages into items and follow-ups.
        sink: Where items go; answered means committed.
        group_of: Which limits a request belongs to.
        states: What incremental walks keep.
        concurrency: Slots.
        max_requests: Tasks to take, at most; then the run ends.
        clock: For ages of answers.
        cache: Answers that are kept; closed at the end.
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
        self._taken = 0
        self._leased: dict[
            str, LeasedTask
        ] = {}  # by lease token: one id may be held again before we know that we lost it
        self._free = asyncio.Event()

    @property
    def tally(self) -> Tally:
        """What it did since it last told."""
        return self.context.tally

    @property
    def events(self) -> list[str]:
        """What is worth a line."""
        return self.context.events

    @property
    def fatal(self) -> Fatal | None:
        """Why the whole run ends, if it does."""
        return self.context.fatal

    @property
    def in_flight(self) -> int:
        """Tasks held now."""
        return len(self._leased)

    def stop(self) -> None:
        """Take no more tasks; what is held is finished."""
        self.context.stopping.set()
        self._free.set()
        self.queue.interrupt()

    async def run(self, grace_s: float = 30.0) -> None:
        """
        Work until `stop`; then finish what is held, at most `grace_s` seconds, and give back the rest.

        Raises StoreError when the store stays away.
        """
        renewing = asyncio.create_task(self._renew())
        try:
            async with self.egress:
                await self.queue.arrive()  # in the place of one that was killed, perhaps
                while not self.context.stopping.is_set():
                    await self._turn()
                await self.queue.leave()
                await self._drain(grace_s)
        finally:
            renewing.cancel()
            if self.context.cache is not None:
                await self.context.cache.aclose()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing

    async def _turn(self) -> None:
        free = self.concurrency - len(self._leased)
        if free <= 0:
            self._free.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._free.wait(), FULL_S)
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
        leased.worker = asyncio.create_task(self._work(leased))

    async def _work(self, leased: LeasedTask) -> None:
        try:
            await TaskRun(self.context, leased).run()
        except LeaseLost:
            self.tally.lost += 1
            log.warning("lease lost", task=leased.task.id)
        except asyncio.CancelledError:
            raise
        except OutputError as error:
            self.context.end(Fatal("output", str(error)))
            await self._give_back(leased)
        except StoreError as error:
            log.error("store", error=str(error))
        except Exception as error:  # a slot never dies of one task: it is a dead letter that says so
            log.exception("task failed", task=leased.task.id)
            text = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
            with contextlib.suppress(ScrapeqError):
                await self.queue.settle(Entry(BURY, leased.lease, error=text))
        finally:
            self._leased.pop(leased.lease.token, None)
            self._free.set()
            if self.fatal is not None:
                self.stop()

    async def _renew(self) -> None:
        """Leases are renewed at a third of their time, all in one call."""
        while True:
            await asyncio.sleep(self.queue.lease_s / 3)
            leased = [one for one in self._leased.values() if not one.is_over]
            try:
                settled = await asyncio.gather(
                    *(
                        self.queue.settle(Entry(EXTEND, one.lease, delay_s=self.queue.lease_s))
                        for one in leased
                    )
                )
            except Exception as error:  # whatever it was: the next turn must come
                log.warning("leases not renewed", error=str(error))
                continue
            for one, result in zip(leased, settled, strict=True):
                if one.is_over or one.lease.token not in self._leased:
                    continue
                if result.outcome == "lost" and one.worker is not None:
                    one.worker.cancel()  # somebody else has it: what we do with it could only be refused
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
            await self._give_back(leased)

    async def _give_back(self, leased: LeasedTask) -> None:
        with contextlib.suppress(ScrapeqError):
            await self.queue.settle(Entry(RELEASE, leased.lease))
