"""Carry out the outcome of a response in the queue, unless it is a page with results."""

from __future__ import annotations

from scrapeq.queue.backoff import backoff_s
from scrapeq.queue.commands import RELEASE, RETRY
from scrapeq.resource import Payload, TaskBuilder
from scrapeq.resource.restart import RESETS_MAX
from scrapeq.responses.outcome import Outcome
from scrapeq.worker.context import Fatal
from scrapeq.worker.dead_pages import bury, pages_after
from scrapeq.worker.redirect_hops import without_hops
from scrapeq.worker.settlement import POLLS, Settlement, without_polls

AUTH_RETRIES_PER_TASK = 2  # fresh credentials that one task may have refused
FAIL_PAUSE_S = 1.0  # the task that ended the run stays invisible until other fetchers know that it ended


def polls_of(payload: Payload) -> tuple[int, float]:
    """Return how often the task was not ready, and the seconds that it waited for that."""
    polls, waited_s = payload.get(POLLS) or (0, 0.0)
    return polls, waited_s


async def carry_out(task: Settlement, outcome: Outcome, refused: list[str]) -> None:
    """
    Carry out an outcome.

    Args:
        task: The task run.
        outcome: The outcome of its response.
        refused: The limits that the response closes.

    Raises:
        LeaseLost, StoreError.
    """
    action = outcome.action
    if action == "rate_limited":
        await _release(task, outcome, refused)
    elif action in ("success", "ignore"):
        await task.done()
    elif action == "retry":
        await _retry(task, outcome)
    elif action == "poll":
        await _poll(task, outcome)
    elif action == "refresh_auth":
        await _refresh_auth(task, outcome)
    elif action == "reset_pagination":
        await _restart_pagination(task, outcome)
    elif action == "fail":
        await fail_run(task, outcome.message)
    else:
        await bury(task, outcome.message)


async def fail_run(task: Settlement, message: str) -> None:
    """End the whole run, and give the task back: it is not lost."""
    task.context.end(Fatal("response", message))
    await task.settle(RELEASE, delay_s=FAIL_PAUSE_S, error=message)


async def _give_up(task: Settlement, outcome: Outcome, why: str) -> None:
    """Bury the task, or end the run, as the configuration says (`on_exceed`)."""
    message = f"{outcome.message}: {why}"
    if outcome.on_exceed == "stop":
        await fail_run(task, message)
    else:
        await bury(task, message)


async def _release(task: Settlement, outcome: Outcome, refused: list[str]) -> None:
    """Turn a refusal into a visibility delay and a closed limit. No attempt is charged, and no worker waits."""
    context, wait_s = task.context, outcome.wait_s or 0.0
    if outcome.max_wait_s is not None and wait_s > outcome.max_wait_s and outcome.on_exceed != "park":
        message = f"{outcome.message}: a wait of {wait_s:.0f} s is longer than max_wait ({outcome.max_wait_s:.0f} s)"
        if outcome.on_exceed == "dead_letter":
            await bury(task, message)
            return
        context.end(Fatal("limit", message))
    only_task = outcome.scope == "task"
    await task.settle(RELEASE, delay_s=wait_s if only_task else 0.0, error=outcome.message)
    what = task.title if only_task else ", ".join(refused) or "the limit of a redirect"
    context.events.append(f"parked {what} for {wait_s:.0f} s: {outcome.message}")


async def _retry(task: Settlement, outcome: Outcome) -> None:
    task.context.tally.retried += 1
    delay_s = max(backoff_s(task.leased.task.attempts), outcome.wait_s or 0.0)
    is_last = task.leased.task.attempts + 1 >= task.context.queue.max_attempts
    push = await pages_after(task) if is_last else []
    settled = await task.settle(RETRY, delay_s=delay_s, error=outcome.message, push=push)
    if settled.outcome == "dead":
        task.report_dead(outcome.message)


async def _poll(task: Settlement, outcome: Outcome) -> None:
    """Request a resource that is not ready later. The payload counts the waits, so it becomes a new task."""
    context, payload, wait_s = task.context, task.payload, outcome.wait_s or 0.0
    polls, waited_s = polls_of(payload)
    most_s = outcome.max_wait_s
    if most_s is not None and waited_s + wait_s > most_s and outcome.on_exceed != "park":
        await _give_up(
            task,
            outcome,
            f"not ready after {polls + 1} requests and {waited_s:.0f} s (max_wait: {most_s:.0f} s)",
        )
        return
    context.tally.polled += 1
    if not polls:
        context.events.append(
            f"poll   {payload['resource']}: not ready, next request in {wait_s:.0f} s: {outcome.message}"
        )
    following: Payload = {**payload, POLLS: [polls + 1, waited_s + wait_s]}
    await task.replace_with(task.continued(following, task.group(*task.request), wait_s))


async def _refresh_auth(task: Settlement, outcome: Outcome) -> None:
    """
    Send the task once more with a fresh credential.

    Other tasks may use up a fresh credential, or renew it, before this one gets its turn, so one refusal of a fresh
    credential does not yet show that the credential is not the cause.
    """
    context, lease, task_id = task.context, task.leased.lease, task.leased.task.id
    if context.auth_retries.add(task_id) > AUTH_RETRIES_PER_TASK:
        context.auth_retries.discard(task_id)  # a redrive may try again
        await _give_up(task, outcome, "with a fresh credential too")
        return
    was_dropped = context.egress.refresh(lease.credential)
    if not (was_dropped or context.plan.client.auth.is_refreshable):
        await _give_up(task, outcome, "this credential cannot be renewed")
        return
    if was_dropped:
        context.events.append(f"auth   {outcome.message}: renewing the credential")
    await task.settle(RELEASE, error=outcome.message)


async def _restart_pagination(task: Settlement, outcome: Outcome) -> None:
    """Restart a page sequence at its first page. Items that are written already stay: they have keys."""
    context = task.context
    payload = without_hops(without_polls(task.payload))
    builder = TaskBuilder(context.plan, context.group_of)
    first = builder.restart(payload, task.leased.task.priority, context.clock.now_s())
    if first is None:
        await _give_up(task, outcome, f"the pagination was already restarted {RESETS_MAX} times")
        return
    context.events.append(
        f"reset  {payload['resource']}: page {payload.get('page', 1)} was refused, so the pagination restarts "
        f"at its first page: {outcome.message}"
    )
    await task.replace_with(first)
