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
from scrapeq.fetch.response_cache import AnswerCache
from scrapeq.plan import Plan
from scrapeq.protocols import Extractor, Sink, States
from scrapeq.queue import Entry, Queue
from scrapeq.queue.commands import BURY, EXTEND, RELEASE
from scrapeq.resource import GroupOf
from scrapeq.task import Task
from scrapeq.worker.context import Means
from scrapeq.worker.settlement import ERROR_LENGTH
from scrapeq.worker.slots import Fatal, Held, Tally
from scrapeq.worker.task_run import Visit

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
        queue: Queue,
        egress: Egress,
        extractor: Extractor,
        sink: Sink,
        group_of: GroupOf,
        states: States,
        concurrency: int,
        max_requests: int | None = None,
        clock: Clock | None = None,
        cache: AnswerCache | None = None,
    ) -> None:
        self.queue = queue
        self.egress = egress
        self.concurrency = concurrency
        self.max_requests = max_requests
        self.means = Means(
            plan, queue, egress, extractor, sink, states, group_of, clock or SystemClock(), cache
        )
        self._taken = 0
        self._held: dict[
            str, Held
        ] = {}  # by lease token: one id may be held again before we know that we lost it
        self._free = asyncio.Event()

    @property
    def tally(self) -> Tally:
        """What it did since it last told."""
        return self.means.tally

    @property
    def events(self) -> list[str]:
        """What is worth a line."""
        return self.means.events

    @property
    def fatal(self) -> Fatal | None:
        """Why the whole run ends, if it does."""
        return self.means.fatal

    @property
    def in_flight(self) -> int:
        """Tasks held now."""
        return len(self._held)

    def stop(self) -> None:
        """Take no more tasks; what is held is finished."""
        self.means.stopping.set()
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
                while not self.means.stopping.is_set():
                    await self._turn()
                await self.queue.leave()
                await self._drain(grace_s)
        finally:
            renewing.cancel()
            if self.means.cache is not None:
                await self.means.cache.aclose()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing

    async def _turn(self) -> None:
        free = self.concurrency - len(self._held)
        if free <= 0:
            self._free.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._free.wait(), FULL_S)
            return
        suspects = sum(1 for held in self._held.values() if held.task.expiries)
        if self.max_requests is not None:
            free = min(free, self.max_requests - self._taken)
            if free <= 0:
                self.means.end(Fatal("bound", f"stopped at --max-requests {self.max_requests}"))
                return
        most = min(free, POP_MAX)
        popped = await self.queue.poll(most, suspects=suspects, stay_s=IDLE_S)
        self._taken += len(popped.tasks)
        for task in popped.tasks:
            self._start(task)
        if len(popped.tasks) < most and not self.means.stopping.is_set():
            await self.queue.wait(popped, IDLE_S)

    def _start(self, task: Task) -> None:
        assert task.lease is not None
        held = Held(task, task.lease)
        self._held[held.lease.token] = held
        held.worker = asyncio.create_task(self._work(held))

    async def _work(self, held: Held) -> None:
        try:
            await Visit(self.means, held).run()
        except LeaseLost:
            self.tally.lost += 1
            log.warning("lease lost", task=held.task.id)
        except asyncio.CancelledError:
            raise
        except OutputError as error:
            self.means.end(Fatal("output", str(error)))
            await self._give_back(held)
        except StoreError as error:
            log.error("store", error=str(error))
        except Exception as error:  # a slot never dies of one task: it is a dead letter that says so
            log.exception("task failed", task=held.task.id)
            text = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
            with contextlib.suppress(ScrapeqError):
                await self.queue.settle(Entry(BURY, held.lease, error=text))
        finally:
            self._held.pop(held.lease.token, None)
            self._free.set()
            if self.fatal is not None:
                self.stop()

    async def _renew(self) -> None:
        """Leases are renewed at a third of their time, all in one call."""
        while True:
            await asyncio.sleep(self.queue.lease_s / 3)
            held = [one for one in self._held.values() if not one.is_over]
            try:
                settled = await asyncio.gather(
                    *(self.queue.settle(Entry(EXTEND, one.lease, delay_s=self.queue.lease_s)) for one in held)
                )
            except Exception as error:  # whatever it was: the next turn must come
                log.warning("leases not renewed", error=str(error))
                continue
            for one, result in zip(held, settled, strict=True):
                if one.is_over or one.lease.token not in self._held:
                    continue
                if result.outcome == "lost" and one.worker is not None:
                    one.worker.cancel()  # somebody else has it: what we do with it could only be refused
                    self.tally.lost += 1

    async def _drain(self, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        while self._held and time.monotonic() < deadline:
            workers = [held.worker for held in self._held.values() if held.worker is not None]
            await asyncio.wait(
                workers, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
        left = list(self._held.values())
        for held in left:
            if held.worker is not None:
                held.worker.cancel()
        for held in left:
            await self._give_back(held)

    async def _give_back(self, held: Held) -> None:
        with contextlib.suppress(ScrapeqError):
            await self.queue.settle(Entry(RELEASE, held.lease))
