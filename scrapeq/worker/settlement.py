"""The grants of one visit: what was sent under them, what the answers said, and how the task ends in the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scrapeq.errors import LeaseLost
from scrapeq.limits.attribution import NO_ATTRIBUTION, Attribution
from scrapeq.queue import Entry, Settled
from scrapeq.queue.commands import ACK, BURY, EXTEND, OBSERVE, PUSH_COUNT, RESPONDED, UNSENT
from scrapeq.resource import payload_key
from scrapeq.task import Group, Lease, NewTask
from scrapeq.worker.context import WorkerContext
from scrapeq.worker.slots import LeasedTask

ERROR_LENGTH = 500


class Settlement:
    """
    Builds the entries of a visit; what an answer said goes out with the first one after it, once.

    Args:
        means: What the worker has.
        held: The task and its lease.
    """

    def __init__(self, context: WorkerContext, leased: LeasedTask) -> None:
        self._context = context
        self._leased = leased
        self.payload: dict[str, Any] = {}
        # grants that were taken after the task's own: of redirect hops, or after a login
        self.hops: list[Lease] = []
        self.hop_group: Group | None = None  # of the last redirect hop
        self.sent = RESPONDED
        self.sent_s = self.answered_s = 0.0  # monotonic
        self.attribution: Attribution = NO_ATTRIBUTION

    @property
    def who(self) -> str:
        """The task, for a person."""
        return f"task {self._leased.task.id}"

    def group(self, method: str, url: str) -> Group:
        """The limits of a request of this task."""
        payload = self.payload
        return self._context.group_of(
            payload["resource"], method, url, payload.get("seed") or {}, payload.get("parent")
        )

    def age_s(self) -> float:
        """How long the answer has been here."""
        return self._context.clock.monotonic_s() - self.answered_s if self.answered_s else 0.0

    def close_hops(self) -> None:
        """Give back the hops' grants. The answer is that of the last one: what it said belongs there."""
        for lease in self.hops[:-1]:
            self._context.queue.settle_soon(Entry(ACK, lease))
        if not self.hops:
            return
        self._context.queue.settle_soon(
            self._with_attribution(Entry(ACK, self.hops[-1], self.sent, self.age_s()))
        )
        self.sent = RESPONDED  # the first request was: by a redirect

    def entry(
        self, verb: int, *, delay_s: float = 0.0, error: str = "", push: Sequence[NewTask] = ()
    ) -> Entry:
        """What becomes of the task, with what the answer said."""
        return self._with_attribution(
            Entry(
                verb,
                self._leased.lease,
                self.sent,
                self.age_s(),
                delay_s,
                self._context.queue.max_attempts,
                error=self._context.egress.redact(error)[:ERROR_LENGTH] if error else "",
                push=push,
            )
        )

    def _with_attribution(self, entry: Entry) -> Entry:
        attribution, self.attribution = self.attribution, NO_ATTRIBUTION
        if attribution is NO_ATTRIBUTION:
            return entry
        return entry._replace(**attribution._asdict())

    async def settle(
        self, verb: int, *, delay_s: float = 0.0, error: str = "", push: Sequence[NewTask] = ()
    ) -> Settled:
        """
        One call of one script.

        Raises LeaseLost.
        """
        settled = await self._context.queue.settle(self.entry(verb, delay_s=delay_s, error=error, push=push))
        if settled.outcome == "lost":
            raise LeaseLost(f"{self.who}: its lease ran out")
        self._leased.is_over = verb not in (OBSERVE, EXTEND)
        return settled

    async def done(self, follow: Sequence[NewTask] = ()) -> Settled:
        """The ack, with what follows."""
        settled = await self.settle(ACK, push=follow)
        self._context.tally.done += 1
        return settled

    def goes_on(self, payload: dict[str, Any], group: Group, delay_s: float = 0.0) -> NewTask:
        """
        The task as another one, in its walk; never a duplicate.

        What has no schedule needs no identity for that.
        """
        task, occurrence = self._leased.task, payload.get("occurrence", 0)
        if not occurrence:
            return NewTask(payload, task.priority, delay_s, group)
        chain = payload.get("chain") or payload_key(self.payload)
        key = f"{payload_key(payload)} after {task.id}"
        return NewTask({**payload, "chain": chain}, task.priority, delay_s, group, key, occurrence, chain)

    async def replaced(self, task: NewTask) -> Settled:
        """The task goes on as another one, which is no progress."""
        return await self.settle(ACK, push=[task])

    async def push_some(self, follow: list[NewTask]) -> list[NewTask]:
        """More follow-ups than one call takes: under the same lease, never held up by a full queue. -> those left."""
        while len(follow) > PUSH_COUNT:
            if self.sent == UNSENT:  # an answer would cost what is to be given back
                await self.settle(EXTEND, delay_s=self._context.queue.lease_s, push=follow[:PUSH_COUNT])
            else:
                await self.settle(OBSERVE, push=follow[:PUSH_COUNT])
            follow = follow[PUSH_COUNT:]
        return follow

    async def bury(self, error: str) -> None:
        """A dead letter that says why."""
        await self.settle(BURY, error=error)
        self.died(error)

    def died(self, error: str) -> None:
        """Tell that the task is a dead letter."""
        self._context.tally.dead += 1
        resource = self.payload.get("resource", "?")
        error = self._context.egress.redact(error)[:ERROR_LENGTH]
        self._context.events.append(f"dead   {resource}: {error} ({self._leased.task.id})")
