"""
The fetch worker: pops what may be sent now, sends it, tells the limits what the answer said, writes the items,
acks with what follows. One process has one; its slots are asyncio tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import FetchError, LeaseLost, OutputError, ScrapeqError, StoreError
from scrapeq.fetch import Egress, HopClosed
from scrapeq.grants import closed_by, told_to
from scrapeq.limits.outcome import Outcome, actions_for, decide
from scrapeq.limits.readings import Observation, observe
from scrapeq.limits.streaks import Streaks
from scrapeq.page import Page
from scrapeq.plan import Plan
from scrapeq.protocols import Extractor, Sink
from scrapeq.queue import Entry, Queue
from scrapeq.queue.backoff import backoff_s
from scrapeq.queue.commands import ACK, ANSWER, BURY, EXTEND, PUSH_COUNT, RELEASE, RETRY
from scrapeq.resource import GroupOf, check_payload, task_key
from scrapeq.supervise.slots import Fatal, Held, Tally, named_by_hand
from scrapeq.task import Group, NewTask, Task

log = structlog.get_logger("scrapeq.worker")

POP_MAX = 100  # tasks taken in one call
IDLE_S = 10.0
FULL_S = 1.0  # how long a full worker sleeps at most before it looks again
STORE_PAUSE_S = 0.5
FAIL_PAUSE_S = 1.0  # for the other fetchers to hear that the run is over, before they take what ended it
TRUNCATE_ERROR = 500


@dataclass(slots=True)
class FetchWorker:
    """
    Args:
        plan: The plan.
        queue: Its queue.
        egress: The one way out.
        extractor: Turns pages into items and follow-ups.
        sink: Where items go; answered means committed.
        group_of: Which limits a request belongs to.
        concurrency: Slots.
        name: For the log.
        max_requests: Tasks to take, at most; then the run ends.
    """

    plan: Plan
    queue: Queue
    egress: Egress
    extractor: Extractor
    sink: Sink
    group_of: GroupOf
    concurrency: int
    name: str = ""
    max_requests: int | None = None
    clock: Clock = field(default_factory=SystemClock)
    tally: Tally = field(default_factory=Tally)
    fatal: Fatal | None = None
    events: list[str] = field(default_factory=list)
    _taken: int = 0
    _held: dict[str, Held] = field(default_factory=dict)
    _streaks: Streaks = field(default_factory=Streaks)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _free: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def in_flight(self) -> int:
        """Tasks held now."""
        return len(self._held)

    def stop(self) -> None:
        """Take no more tasks; what is held is finished."""
        self._stop.set()
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
                while not self._stop.is_set():
                    await self._turn()
                await self._drain(grace_s)
        finally:
            renewing.cancel()
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
                self._end(Fatal("bound", f"stopped at --max-requests {self.max_requests}"))
                return
        popped = await self.queue.poll(min(free, POP_MAX), suspects=suspects)
        self._taken += len(popped.tasks)
        for task in popped.tasks:
            self._start(task)
        if not popped.tasks and not self._stop.is_set():
            await self.queue.wait(popped, IDLE_S)

    def _start(self, task: Task) -> None:
        assert task.lease is not None
        held = Held(task, task.lease)
        self._held[task.id] = held
        held.worker = asyncio.create_task(self._work(held))

    async def _work(self, held: Held) -> None:
        try:
            await self._fetch(held)
        except LeaseLost:
            self.tally.lost += 1
            log.warning("lease lost", task=held.task.id)
        except asyncio.CancelledError:
            raise
        except OutputError as error:
            self._end(Fatal("output", str(error)))
            await self._give_back(held)
        except StoreError as error:
            log.error("store", error=str(error))
        except Exception as error:  # a slot never dies of one task: it is a dead letter that says so
            log.exception("task failed", task=held.task.id)
            with contextlib.suppress(ScrapeqError):
                await self._settle(
                    held, Entry(BURY, held.lease, error=f"{type(error).__name__}: {error}"[:TRUNCATE_ERROR])
                )
        finally:
            self._held.pop(held.task.id, None)
            self._free.set()

    async def _fetch(self, held: Held) -> None:
        task = held.task
        try:
            payload = check_payload(task.payload)
        except ScrapeqError as error:
            await self._bury(held, str(error), sent=False)
            return
        method, url = payload.get("method", "GET"), payload["url"]
        group = self._group(payload, method, url)
        body = payload.get("body")
        page: Page | None = None
        failure: FetchError | None = None
        self.tally.requests += 1
        sent_s = self.clock.monotonic_s()
        try:
            page = await self.egress.send(
                method,
                url,
                headers=list((payload.get("headers") or {}).items()),
                body=body.encode() if isinstance(body, str) else None,
                hop=lambda to, verb: self._hop(payload, to, verb),
                named_hosts=named_by_hand(payload),
            )
        except HopClosed as hop:
            await self._push_hop(held, payload, hop)
            return
        except FetchError as error:
            failure = error
        answered_s = self.clock.monotonic_s()
        observed = observe(page.status, page.headers, self.clock.now_s()) if page else Observation()
        streak = self._streaks.with_this(group.name, sent_s)
        outcome = decide(
            actions_for(self.plan, payload["resource"]),
            resource=payload["resource"],
            method=method,
            url=url,
            page=page,
            error=failure,
            observation=observed,
            refusals_in_a_row=streak,
            names={"seed": payload.get("seed"), "parent": payload.get("parent"), "now": self.clock.now_s()},
        )
        await self._conclude(held, payload, group, page, outcome, answered_s, streak)

    async def _conclude(
        self,
        held: Held,
        payload: dict[str, Any],
        group: Group,
        page: Page | None,
        outcome: Outcome,
        answered_s: float,
        streak: int,
    ) -> None:
        told = told_to(group, outcome)
        action = outcome.action
        if action == "rate_limited":
            await self._refused(held, payload, group, outcome, told, streak)
            return
        self._streaks.answered(group.name)
        age_s = self.clock.monotonic_s() - answered_s
        if action in ("success", "ignore"):
            if action == "success" and page is not None:
                # the limits learn it now; extraction and the sink may take their time
                answer = self.queue.settle_soon(Entry(ANSWER, held.lease, age_s=age_s, told=told))
                await self._keep(held, payload, page)
                await answer
            else:
                await self._settle(held, Entry(ACK, held.lease, age_s=age_s, told=told))
                self.tally.done += 1
        elif action == "retry":
            self.tally.retried += 1
            delay_s = max(backoff_s(held.task.attempts), outcome.wait_s or 0.0)
            entry = Entry(
                RETRY,
                held.lease,
                age_s=age_s,
                delay_s=delay_s,
                told=told,
                error=outcome.message,
                max_attempts=self.queue.max_attempts,
            )
            if await self._settle(held, entry) == "dead":
                self.tally.dead += 1
                self.events.append(f"dead   {payload['resource']}: {outcome.message} ({held.task.id})")
        elif action == "fail":
            self._end(Fatal("answer", outcome.message))
            entry = Entry(
                RELEASE,
                held.lease,
                age_s=age_s,
                delay_s=FAIL_PAUSE_S,
                told=told,
                error=outcome.message,
            )
            await self._settle(held, entry)
        else:
            await self._bury(held, outcome.message, told=told, age_s=age_s)

    async def _keep(self, held: Held, payload: dict[str, Any], page: Page) -> None:
        """Items to the sink, then the ack with what follows: never the other way round."""
        try:
            found = self.extractor.extract(payload, held.task.priority, page)
        except ScrapeqError as error:
            await self._bury(held, str(error))
            return
        self.tally.skipped += found.skipped
        if found.items:
            written = await self.sink.commit(held.task.id, held.lease.token, found.items)
            self.tally.items += written  # not in one line: others add to it while we wait
        follow: Sequence[NewTask] = found.follow_ups
        if len(follow) > PUSH_COUNT:  # keyed, so that pushing them again changes nothing
            await self.queue.push_many(follow[PUSH_COUNT:])
            follow = follow[:PUSH_COUNT]
        await self._settle(held, Entry(ACK, held.lease, push=follow))
        self.tally.done += 1

    async def _refused(
        self,
        held: Held,
        payload: dict[str, Any],
        group: Group,
        outcome: Outcome,
        told: Sequence[tuple[str, float, float]],
        streak: int,
    ) -> None:
        """A refusal becomes a visibility delay and a closed limit; no attempt is charged, nobody waits here."""
        self.tally.refused += 1
        self._streaks.refused(group.name, streak, self.clock.monotonic_s())
        wait_s = outcome.wait_s or 0.0
        closed = closed_by(group, outcome.scope)
        if outcome.max_wait_s is not None and wait_s > outcome.max_wait_s and outcome.on_exceed != "park":
            message = f"{outcome.message}: a wait of {wait_s:.0f} s is more than max_wait ({outcome.max_wait_s:.0f} s)"
            if outcome.on_exceed == "dead_letter":
                await self._bury(held, message, told=told)
                return
            self._end(Fatal("limit", message))
        refused = [(name, wait_s) for name in closed]
        entry = Entry(
            RELEASE,
            held.lease,
            told=told,
            refused=refused,
            delay_s=0.0 if refused else wait_s,
            error=outcome.message,
        )
        await self._settle(held, entry)
        where = ", ".join(closed) or f"task {held.task.id}"
        self.events.append(f"parked {where} for {wait_s:.0f} s: {outcome.message}")

    def _group(self, payload: dict[str, Any], method: str, url: str) -> Group:
        return self.group_of(
            payload["resource"], method, url, payload.get("seed") or {}, payload.get("parent")
        )

    async def _hop(self, payload: dict[str, Any], url: str, method: str) -> bool:
        """May this redirect hop be sent now? Its own limits say."""
        self.tally.redirects += 1
        extra = await self.queue.acquire(self._group(payload, method, url))
        if extra is None:
            return False
        self.queue.settle_soon(Entry(ACK, extra))
        self.tally.requests += 1
        return True

    async def _push_hop(self, held: Held, payload: dict[str, Any], hop: HopClosed) -> None:
        """A hop that meets a closed limit becomes the task."""
        body = hop.body.decode("utf-8", "replace") if hop.body is not None else None
        following = {
            **payload,
            "method": hop.method,
            "url": hop.url,
            "headers": dict(hop.headers),
            "body": body,
        }
        task = NewTask(
            following,
            held.task.priority,
            group=self._group(payload, hop.method, hop.url),
            key=task_key(hop.method, hop.url, body),
        )
        await self._settle(held, Entry(ACK, held.lease, push=[task]))

    async def _bury(
        self,
        held: Held,
        error: str,
        *,
        sent: bool = True,
        told: Sequence[tuple[str, float, float]] = (),
        age_s: float = 0.0,
    ) -> None:
        await self._settle(
            held, Entry(BURY, held.lease, sent=sent, told=told, age_s=age_s, error=error[:TRUNCATE_ERROR])
        )
        self.tally.dead += 1
        resource = held.task.payload.get("resource", "?") if isinstance(held.task.payload, dict) else "?"
        self.events.append(f"dead   {resource}: {error[:TRUNCATE_ERROR]} ({held.task.id})")

    async def _settle(self, held: Held, entry: Entry) -> str:
        settled = await self.queue.settle(entry)
        if settled.outcome == "lost":
            raise LeaseLost(f"task {held.task.id}: its lease ran out")
        return settled.outcome

    def _end(self, fatal: Fatal) -> None:
        if self.fatal is None:
            self.fatal = fatal
        self.stop()

    async def _renew(self) -> None:
        """Leases are renewed at a third of their time, all in one call."""
        while True:
            await asyncio.sleep(self.queue.lease_s / 3)
            held = list(self._held.values())
            try:
                settled = await asyncio.gather(
                    *(self.queue.settle(Entry(EXTEND, one.lease, delay_s=self.queue.lease_s)) for one in held)
                )
            except ScrapeqError as error:
                log.warning("leases not renewed", error=str(error))
                continue
            for one, result in zip(held, settled, strict=True):
                if result.outcome == "lost" and one.worker is not None and one.task.id in self._held:
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
