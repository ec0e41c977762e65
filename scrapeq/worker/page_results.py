"""Store the results of a page: items go to the sink first, then the ack pushes its follow-ups, never the reverse."""

from __future__ import annotations

from collections.abc import Sequence

from scrapeq.errors import BrokenBody, RecordRejected, ScrapeqError
from scrapeq.page import Page
from scrapeq.protocols import Extraction, IncrementalStart, Item
from scrapeq.queue.commands import OBSERVE, RELEASE, UNSENT
from scrapeq.resource.incremental import incomplete_reason
from scrapeq.task import NewTask
from scrapeq.wiring import build_first_tasks
from scrapeq.worker.context import Fatal, ItemBoundReached
from scrapeq.worker.dead_pages import bury
from scrapeq.worker.redirect_hops import without_hops
from scrapeq.worker.settlement import Settlement, without_polls


async def store_results(task: Settlement, page: Page, response: Page | None = None) -> None:
    """
    Read the page in parts, write its items, push its follow-ups and acknowledge the task.

    A page that does not match its resource becomes a dead letter.

    Args:
        task: The task run.
        page: The page that is read.
        response: What came over the wire, for outputs that store responses; None = the page comes from the cache.

    Raises:
        BrokenBody: the body is cut off, or states an error; nothing is settled.
        LeaseLost, OutputError, StoreError.
    """
    context = task.context
    payload = without_hops(without_polls(task.payload))
    parts = context.extractor.chunks(payload, task.leased.task.priority, page)
    follow_ups: list[NewTask] = []
    uncaptured = response if context.captures_responses else None
    last = Extraction()
    while True:
        try:
            part = await anext(parts, None)
        except BrokenBody:
            raise
        except ScrapeqError as error:
            await bury(task, str(error))
            return
        if part is None:
            break
        last = part
        context.tally.skipped += part.skipped
        context.events += part.events
        if part.items:
            try:
                await _write(task, part.items, uncaptured)
            except RecordRejected as error:
                await bury(task, str(error))
                return
            except ItemBoundReached:  # a resumed run requests the page again and writes the rest of it
                await task.settle(RELEASE)
                return
            uncaptured = None
        follow_ups += [*part.follow_ups, *await _first_pages(task, part.starts)]
        follow_ups = await task.push_excess(follow_ups)
    if uncaptured is not None:
        try:
            await _write(task, (), uncaptured)
        except RecordRejected as error:
            await bury(task, str(error))
            return
    if last.next_page is not None:
        follow_ups.append(last.next_page)
    sequence = payload.get("chain") or task.leased.task.id
    if last.incomplete:  # before the ack, so that it is not lost
        await context.cursor_store.add_incomplete(sequence, payload["resource"], task.masked(last.incomplete))
    settled = await task.done(follow_ups)
    if last.next_page is not None and settled.pushed[-1].outcome == "duplicate":
        number = payload.get("page", 1)
        reason = incomplete_reason(
            f"the page after page {number} was already requested, in a loop or from another start; "
            "pagination stopped. If that marks the end, say so with `stop_when`",
            payload.get("incremental"),
        )
        context.events.append(f"loop   {payload['resource']}: {reason}")
        await context.cursor_store.add_incomplete(sequence, payload["resource"], reason)
    if last.cursor_state is not None:
        await context.cursor_store.save(*last.cursor_state)
    is_complete = last.next_page is None and not (
        last.incomplete or (payload.get("walk") or {}).get("incomplete")
    )
    if "chain" in payload and is_complete:
        await context.cursor_store.remove_incomplete(
            sequence
        )  # it may have been incomplete when it was last due


async def _write(task: Settlement, items: Sequence[Item], response: Page | None) -> None:
    """Commit items to the sink. The limits observe the response meanwhile, since the sink may take its time."""
    context, leased = task.context, task.leased
    observed = context.queue.settle_soon(task.entry(OBSERVE)) if task.sent != UNSENT else None
    captured = response

    async def commit(some: Sequence[Item]) -> int:
        nonlocal captured
        page, captured = captured, None
        if page is None:
            written = await context.sink.commit(leased.task.id, leased.lease.token, some)
        else:
            written = await context.sink.commit(
                leased.task.id,
                leased.lease.token,
                some,
                page=page,
                resource=task.payload["resource"],
                seed=task.payload.get("seed"),
            )
        context.tally.items += written  # a statement of its own: others add to it during the await
        context.tally.unchanged += max(0, sum(item.resource in context.written for item in some) - written)
        return written

    try:
        await context.item_bound.write(items, commit)
    finally:
        if context.item_bound.is_reached:
            context.end(Fatal("bound", f"stopped at --max-items {context.item_bound.most}"))
        if observed is not None:
            await observed


async def _first_pages(task: Settlement, starts: Sequence[IncrementalStart]) -> list[NewTask]:
    """Return the first pages of incremental page sequences, from where the last ones ended."""
    if not starts:
        return []
    tasks = await build_first_tasks(task.context.cursor_store, starts)
    task.context.tally.skipped += tasks.count(None)
    return [one for one in tasks if one is not None]
