"""The state of one task run: its grants, what was sent under them, and how its lease is settled in the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from scrapeq.errors import LeaseLost
from scrapeq.limits.attribution import NO_ATTRIBUTION, Attribution
from scrapeq.queue import Entry, Settled
from scrapeq.queue.commands import ACK, BURY, EXTEND, OBSERVE, PUSH_COUNT, RESPONDED, UNSENT
from scrapeq.resource import Payload, payload_key
from scrapeq.task import Group, Lease, NewTask
from scrapeq.worker.context import LeasedTask, WorkerContext

ERROR_MAX_CHARS = 500
POLLS: Final = "polls"  # payload key: how often the task was not ready, and the seconds of all its waits


class Settlement:
    """
    Settles the lease of one task run, and the further grants that it took.

    The attribution of a response (what it did to which limits) is sent once, with the first entry after it.

    Args:
        context: What the worker shares.
        leased: The task and its lease.

    Attributes:
        payload: The task's payload, once it is checked.
        hops: Grants that were taken after the task's own: for redirect hops, or after a login.
        hop_group: The limits of the last redirect hop.
        sent: Whether the request was sent and answered (UNSENT, RESPONDED, NO_RESPONSE).
        sent_s, received_s: Monotonic seconds; 0 = not yet.
        attribution: What the response did to which limits, until it is sent.
    """

    def __init__(self, context: WorkerContext, leased: LeasedTask) -> None:
        self.context = context
        self.leased = leased
        self.payload = cast(Payload, {})  # until it is checked
        self.hops: list[Lease] = []
        self.hop_group: Group | None = None
        self.sent = RESPONDED
        self.sent_s = self.received_s = 0.0
        self.attribution: Attribution = NO_ATTRIBUTION

    @property
    def title(self) -> str:
        """The task, in messages."""
        return f"task {self.leased.task.id}"

    @property
    def request(self) -> tuple[str, str]:
        """Method and URL of the task's request."""
        return self.payload.get("method", "GET"), self.payload["url"]

    def group(self, method: str, url: str) -> Group:
        """Return the limits of a request that belongs to this task."""
        payload = self.payload
        return self.context.group_of(
            payload["resource"], method, url, payload.get("seed") or {}, payload.get("parent")
        )

    def age_s(self) -> float:
        """Return the seconds since the response was received; 0 before."""
        return self.context.clock.monotonic_s() - self.received_s if self.received_s else 0.0

    # --- entries

    def entry(
        self, verb: int, *, delay_s: float = 0.0, error: str = "", push: Sequence[NewTask] = ()
    ) -> Entry:
        """Build the entry that settles the task, with the attribution of its response."""
        return self._attributed(
            Entry(
                verb,
                self.leased.lease,
                self.sent,
                self.age_s(),
                delay_s,
                self.context.queue.max_attempts,
                error=self.masked(error) if error else "",
                push=push,
            )
        )

    def masked(self, error: str) -> str:
        """Return an error as it may be stored and shown: without credentials, not too long."""
        return self.context.egress.redact(error)[:ERROR_MAX_CHARS]

    def _attributed(self, entry: Entry) -> Entry:
        attribution, self.attribution = self.attribution, NO_ATTRIBUTION
        return entry if attribution is NO_ATTRIBUTION else entry._replace(**attribution._asdict())

    def settle_hops(self) -> None:
        """Give back the grants of redirect hops. The response is that of the last one, and so is its attribution."""
        queue = self.context.queue
        for lease in self.hops[:-1]:
            queue.settle_soon(Entry(ACK, lease))
        if self.hops:
            queue.settle_soon(self._attributed(Entry(ACK, self.hops[-1], self.sent, self.age_s())))
            self.sent = RESPONDED  # a redirect was the response to the task's own request

    # --- settling

    async def settle(
        self, verb: int, *, delay_s: float = 0.0, error: str = "", push: Sequence[NewTask] = ()
    ) -> Settled:
        """
        Settle the task with one call of one script.

        Raises:
            LeaseLost: the lease ran out.
            StoreError: the store cannot be reached.
        """
        settled = await self.context.queue.settle(self.entry(verb, delay_s=delay_s, error=error, push=push))
        if settled.outcome == "lost":
            raise LeaseLost(f"{self.title}: its lease expired")
        self.leased.is_over = verb not in (OBSERVE, EXTEND)
        return settled

    async def done(self, follow_ups: Sequence[NewTask] = ()) -> Settled:
        """Acknowledge the task, and push its follow-ups."""
        settled = await self.settle(ACK, push=follow_ups)
        self.context.tally.done += 1
        return settled

    async def replace_with(self, task: NewTask) -> Settled:
        """Acknowledge the task, and push the one that continues it: no progress is counted."""
        return await self.settle(ACK, push=[task])

    def continued(self, payload: Payload, group: Group, delay_s: float = 0.0) -> NewTask:
        """
        Return the task that continues this one, in its page sequence; it is never a duplicate.

        Only tasks of a schedule need an identity for that.
        """
        task, occurrence = self.leased.task, payload.get("occurrence", 0)
        if not occurrence:
            return NewTask(payload, task.priority, delay_s, group)
        chain = payload.get("chain") or payload_key(self.payload)
        key = f"{payload_key(payload)} after {task.id}"
        return NewTask({**payload, "chain": chain}, task.priority, delay_s, group, key, occurrence, chain)

    async def push_excess(self, follow_ups: list[NewTask]) -> list[NewTask]:
        """Push follow-ups that do not fit in the final call, under the same lease; return those that do."""
        while len(follow_ups) > PUSH_COUNT:
            batch, follow_ups = follow_ups[:PUSH_COUNT], follow_ups[PUSH_COUNT:]
            if self.sent == UNSENT:  # OBSERVE would spend the grant that is still to be refunded
                await self.settle(EXTEND, delay_s=self.context.queue.lease_s, push=batch)
            else:
                await self.settle(OBSERVE, push=batch)
        return follow_ups

    async def bury(self, error: str) -> None:
        """Make the task a dead letter with this error; nothing follows it (`dead_pages.bury` goes on)."""
        await self.settle(BURY, error=error)
        self.report_dead(error)

    def report_dead(self, error: str) -> None:
        """Count a dead letter, and tell the user."""
        self.context.tally.dead += 1
        resource = self.payload.get("resource", "?")
        self.context.events.append(f"dead   {resource}: {self.masked(error)} ({self.leased.task.id})")


def without_polls(payload: Payload) -> Payload:
    """Return the payload without its polls, as follow-ups inherit it."""
    if POLLS not in payload:
        return payload
    rest = payload.copy()
    del rest[POLLS]
    return rest
