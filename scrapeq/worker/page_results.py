"""A good answer: items to the sink, then the ack with what follows; never the other way round."""

from __future__ import annotations

from collections.abc import Sequence

from scrapeq.errors import ScrapeqError
from scrapeq.page import Page
from scrapeq.protocols import Extraction, IncrementalStart, Item
from scrapeq.queue.commands import OBSERVE, UNSENT
from scrapeq.task import NewTask
from scrapeq.wiring import build_first_tasks
from scrapeq.worker.context import WorkerContext
from scrapeq.worker.outcomes import POLLS
from scrapeq.worker.redirect_hops import without_hops
from scrapeq.worker.settlement import Settlement
from scrapeq.worker.slots import LeasedTask


class PageResults:
    """What one page gives."""

    def __init__(self, context: WorkerContext, leased: LeasedTask, settlement: Settlement) -> None:
        self._context = context
        self._leased = leased
        self._settlement = settlement

    async def keep(self, page: Page, answer: Page | None = None) -> None:
        """
        Read the page in parts, write its items, push what follows, ack.

        A page that is not what its resource says is a dead letter.

        Args:
            page: What is read.
            answer: What came over the wire, for outputs that keep answers; None: nothing was asked for.

        Raises LeaseLost, OutputError, StoreError.
        """
        context, settlement = self._context, self._settlement
        # what follows has its own polls and hops
        payload = settlement.payload
        if POLLS in payload:
            payload = {name: value for name, value in payload.items() if name != POLLS}
        payload = without_hops(payload)
        chunks = context.extractor.chunks(payload, self._leased.task.priority, page)
        follow: list[NewTask] = []
        to_keep = answer if context.captures_responses else None
        last = Extraction()
        while True:
            try:
                found = await anext(chunks, None)
            except ScrapeqError as error:
                await settlement.bury(str(error))
                return
            if found is None:
                break
            last = found
            context.tally.skipped += found.skipped
            context.events += found.events
            if found.items:
                await self._write(found.items, to_keep)
                to_keep = None
            follow += [*found.follow_ups, *await self._started(found.starts)]
            follow = await settlement.push_some(follow)
        if to_keep is not None:
            await self._write((), to_keep)
        if last.next_page is not None:
            follow.append(last.next_page)
        settled = await settlement.done(follow)
        if last.next_page is not None and settled.pushed[-1].outcome == "duplicate":
            name, number = payload["resource"], payload.get("page", 1)
            context.events.append(f"loop   {name}: the page after page {number} has been asked for already")
        if last.keep is not None:
            await context.cursor_store.keep(*last.keep)

    async def _write(self, items: Sequence[Item], answer: Page | None) -> None:
        """The limits learn of the answer now, if there is one; the sink may take its time."""
        context, leased, settlement = self._context, self._leased, self._settlement
        is_sent = settlement.sent != UNSENT
        reported = context.queue.settle_soon(settlement.entry(OBSERVE)) if is_sent else None
        try:
            if answer is None:
                written = await context.sink.commit(leased.task.id, leased.lease.token, items)
            else:
                whose = settlement.payload
                written = await context.sink.commit(
                    leased.task.id,
                    leased.lease.token,
                    items,
                    page=answer,
                    resource=whose["resource"],
                    seed=whose.get("seed"),
                )
        finally:
            if reported is not None:
                await reported
        context.tally.items += written  # not in one line: others add to it while we wait

    async def _started(self, starts: Sequence[IncrementalStart]) -> list[NewTask]:
        """The first pages of walks, from where the last ones ended."""
        if not starts:
            return []
        tasks = await build_first_tasks(self._context.cursor_store, starts)
        self._context.tally.skipped += tasks.count(None)
        return [task for task in tasks if task is not None]
