"""What becomes of a task whose answer was no success: it waits, is tried again, is a dead letter, or ends the run."""

from __future__ import annotations

from typing import Final

from scrapeq.queue.backoff import backoff_s
from scrapeq.queue.commands import RELEASE, RETRY
from scrapeq.resource import Payload, TaskBuilder
from scrapeq.resource.restart import RESETS_MAX
from scrapeq.responses.outcome import Outcome
from scrapeq.worker.context import WorkerContext
from scrapeq.worker.redirect_hops import without_hops
from scrapeq.worker.settlement import Settlement
from scrapeq.worker.slots import Fatal, LeasedTask

POLLS: Final = (
    "polls"  # a member of the payload: how often it was not ready, and the seconds of all its waits
)
FAIL_PAUSE_S = 1.0  # for the other fetchers to hear that the run is over, before they take what ended it


def polls_of(payload: Payload) -> tuple[int, float]:
    """How often the task was not ready, and how many seconds that has cost."""
    polls, waited_s = payload.get(POLLS) or (0, 0.0)
    return polls, waited_s


class Outcomes:
    """Carries out an outcome."""

    def __init__(self, context: WorkerContext, leased: LeasedTask, settlement: Settlement) -> None:
        self._context = context
        self._leased = leased
        self._settlement = settlement

    async def carry_out(self, outcome: Outcome, refused: list[str]) -> None:
        """
        Whatever the outcome says, but for a page that is kept.

        Args:
            outcome: Of the answer.
            refused: The limits that it closes.
        """
        settlement, action = self._settlement, outcome.action
        if action == "rate_limited":
            await self._refused(outcome, refused)
        elif action in ("success", "ignore"):
            await settlement.done()
        elif action == "retry":
            await self._retry(outcome)
        elif action == "poll":
            await self._poll(outcome)
        elif action == "refresh_auth":
            await self._refresh(outcome)
        elif action == "reset_pagination":
            await self._restart(outcome)
        elif action == "fail":
            await self.fail(outcome.message)
        else:
            await settlement.bury(outcome.message)

    async def fail(self, message: str) -> None:
        """The run ends, and the task is not lost."""
        self._context.end(Fatal("response", message))
        await self._settlement.settle(RELEASE, delay_s=FAIL_PAUSE_S, error=message)

    async def _give_up(self, outcome: Outcome, why: str) -> None:
        """What could be done was done: a dead letter, or the end of the run, as the file says."""
        message = f"{outcome.message}: {why}"
        if outcome.on_exceed == "stop":
            await self.fail(message)
        else:
            await self._settlement.bury(message)

    async def _poll(self, outcome: Outcome) -> None:
        """Not ready yet: asked for again later. How long it has waited is told by its payload, so it is a new task."""
        settlement, wait_s = self._settlement, outcome.wait_s or 0.0
        payload = settlement.payload
        polls, waited_s = polls_of(payload)
        most_s = outcome.max_wait_s
        if most_s is not None and waited_s + wait_s > most_s and outcome.on_exceed != "park":
            await self._give_up(
                outcome,
                f"not ready after {polls + 1} answers and {waited_s:.0f} s (max_wait: {most_s:.0f} s)",
            )
            return
        self._context.tally.polled += 1
        if not polls:
            self._context.events.append(
                f"poll   {payload['resource']}: not ready, asked again in {wait_s:.0f} s: {outcome.message}"
            )
        group = settlement.group(payload.get("method", "GET"), payload["url"])
        again: Payload = {**payload, POLLS: [polls + 1, waited_s + wait_s]}
        await settlement.replaced(settlement.goes_on(again, group, wait_s))

    async def _refresh(self, outcome: Outcome) -> None:
        """
        Sent again with a fresh credential, once.

        The egress may have a newer one already: then this task's was the last one before it.
        """
        context, credential = self._context, self._leased.lease.credential
        if not context.auth_retries.first(self._leased.task.id):
            context.auth_retries.over(self._leased.task.id)  # should a person have it sent again
            await self._give_up(
                outcome, "with a fresh credential, too"
            )  # so it is not the credential's fault
            return
        forgotten = context.egress.refresh(credential)
        if not (forgotten or context.plan.client.auth.is_refreshable):
            await self._give_up(outcome, "this credential cannot be asked for again")
            return
        if forgotten:
            context.events.append(f"auth   {outcome.message}: the credential is asked for again")
        await self._settlement.settle(RELEASE, error=outcome.message)

    async def _restart(self, outcome: Outcome) -> None:
        """The walk begins anew. What its pages gave before stays; items have keys."""
        payload = without_hops(self._settlement.payload.copy())
        payload.pop(POLLS, None)
        builder = TaskBuilder(self._context.plan, self._context.group_of)
        task = builder.restart(payload, self._leased.task.priority, self._context.clock.now_s())
        if task is None:
            await self._give_up(outcome, f"the pagination was already restarted {RESETS_MAX} times")
            return
        self._context.events.append(
            f"reset  {payload['resource']}: page {payload.get('page', 1)} was refused, so the pagination restarts "
            f"at its first page: {outcome.message}"
        )
        await self._settlement.replaced(task)

    async def _retry(self, outcome: Outcome) -> None:
        self._context.tally.retried += 1
        delay_s = max(backoff_s(self._leased.task.attempts), outcome.wait_s or 0.0)
        settled = await self._settlement.settle(RETRY, delay_s=delay_s, error=outcome.message)
        if settled.outcome == "dead":
            self._settlement.died(outcome.message)

    async def _refused(self, outcome: Outcome, refused: list[str]) -> None:
        """A refusal becomes a visibility delay and a closed limit; no attempt is charged, nobody waits here."""
        context, wait_s = self._context, outcome.wait_s or 0.0
        if outcome.max_wait_s is not None and wait_s > outcome.max_wait_s and outcome.on_exceed != "park":
            message = f"{outcome.message}: a wait of {wait_s:.0f} s is more than max_wait ({outcome.max_wait_s:.0f} s)"
            if outcome.on_exceed == "dead_letter":
                await self._settlement.bury(message)
                return
            context.end(Fatal("limit", message))
        task_alone = outcome.scope == "task"
        await self._settlement.settle(RELEASE, delay_s=wait_s if task_alone else 0.0, error=outcome.message)
        where = self._settlement.who if task_alone else ", ".join(refused) or "a hop's limit"
        context.events.append(f"parked {where} for {wait_s:.0f} s: {outcome.message}")
