"""Dead letters in page sequences: the pages that are known to follow are requested all the same."""

from __future__ import annotations

from contextlib import suppress

from scrapeq.errors import UsageError
from scrapeq.queue.commands import BURY
from scrapeq.resource import TaskBuilder
from scrapeq.resource.incremental import incomplete_reason
from scrapeq.task import NewTask
from scrapeq.worker.redirect_hops import without_hops
from scrapeq.worker.settlement import Settlement, without_polls


async def bury(task: Settlement, error: str) -> None:
    """Make the task a dead letter with this error, and go on with the pages that are known to follow."""
    await task.settle(BURY, error=error, push=await pages_after(task))
    task.report_dead(error)


async def pages_after(task: Settlement) -> list[NewTask]:
    """
    Return what is pushed in place of a dead page, and record that its page sequence is incomplete.

    That is the next page, if an earlier page has reported how many follow and they are numbered; otherwise nothing.
    """
    context = task.context
    payload = without_hops(without_polls(task.payload))
    builder = TaskBuilder(context.plan, context.group_of)
    following = None
    with suppress(UsageError):
        following = builder.after_dead_page(payload, task.leased.task.priority)
    number = payload.get("page", 1)
    if following is not None or number > 1:
        known = "the pages known to follow are requested" if following else "the pages after it are unknown"
        reason = incomplete_reason(
            f"page {number} is a dead letter, and {known}; `scrapeq dead redrive` continues from it",
            payload.get("incremental"),
        )
        await context.cursor_store.add_incomplete(
            task.leased.task.id, payload["resource"], reason, is_dead=True
        )
    return [] if following is None else [following]
