"""What becomes of a task whose answer was no success: it waits, is tried again, is a dead letter, or ends the run."""

from __future__ import annotations

from scrapeq.limits.outcome import Outcome
from scrapeq.queue.backoff import backoff_s
from scrapeq.queue.commands import RELEASE, RETRY
from scrapeq.supervise.means import Means
from scrapeq.supervise.settlement import Settlement
from scrapeq.supervise.slots import Fatal, Held

FAIL_PAUSE_S = 1.0  # for the other fetchers to hear that the run is over, before they take what ended it


class Verdict:
    """Carries out an outcome."""

    def __init__(self, means: Means, held: Held, settlement: Settlement) -> None:
        self._means = means
        self._held = held
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
        elif action == "fail":
            await self.fail(outcome.message)
        else:
            await settlement.bury(outcome.message)

    async def fail(self, message: str) -> None:
        """The run ends, and the task is not lost."""
        self._means.end(Fatal("answer", message))
        await self._settlement.settle(RELEASE, delay_s=FAIL_PAUSE_S, error=message)

    async def _retry(self, outcome: Outcome) -> None:
        self._means.tally.retried += 1
        delay_s = max(backoff_s(self._held.task.attempts), outcome.wait_s or 0.0)
        settled = await self._settlement.settle(RETRY, delay_s=delay_s, error=outcome.message)
        if settled.outcome == "dead":
            self._settlement.died(outcome.message)

    async def _refused(self, outcome: Outcome, refused: list[str]) -> None:
        """A refusal becomes a visibility delay and a closed limit; no attempt is charged, nobody waits here."""
        means, wait_s = self._means, outcome.wait_s or 0.0
        if outcome.max_wait_s is not None and wait_s > outcome.max_wait_s and outcome.on_exceed != "park":
            message = f"{outcome.message}: a wait of {wait_s:.0f} s is more than max_wait ({outcome.max_wait_s:.0f} s)"
            if outcome.on_exceed == "dead_letter":
                await self._settlement.bury(message)
                return
            means.end(Fatal("limit", message))
        task_alone = outcome.scope == "task"
        await self._settlement.settle(RELEASE, delay_s=wait_s if task_alone else 0.0, error=outcome.message)
        where = self._settlement.who if task_alone else ", ".join(refused) or "a hop's limit"
        means.events.append(f"parked {where} for {wait_s:.0f} s: {outcome.message}")
