"""A good answer: items to the sink, then the ack with what follows; never the other way round."""

from __future__ import annotations

from collections.abc import Sequence

from scrapeq.errors import ScrapeqError
from scrapeq.page import Page
from scrapeq.protocols import Extraction, Item, WalkStart
from scrapeq.queue.commands import ANSWER, UNSENT
from scrapeq.task import NewTask
from scrapeq.wiring import started
from scrapeq.worker.context import Means
from scrapeq.worker.outcomes import POLLS
from scrapeq.worker.redirect_hops import without_hops
from scrapeq.worker.settlement import Settlement
from scrapeq.worker.slots import Held


class Harvest:
    """What one page gives."""

    def __init__(self, means: Means, held: Held, settlement: Settlement) -> None:
        self._means = means
        self._held = held
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
        means, settlement = self._means, self._settlement
        # what follows has its own polls and hops
        payload = settlement.payload
        if POLLS in payload:
            payload = {name: value for name, value in payload.items() if name != POLLS}
        payload = without_hops(payload)
        chunks = means.extractor.chunks(payload, self._held.task.priority, page)
        follow: list[NewTask] = []
        to_keep = answer if means.keeps_answers else None
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
            means.tally.skipped += found.skipped
            means.events += found.events
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
            means.events.append(f"loop   {name}: the page after page {number} has been asked for already")
        if last.keep is not None:
            await means.states.keep(*last.keep)

    async def _write(self, items: Sequence[Item], answer: Page | None) -> None:
        """The limits learn of the answer now, if there is one; the sink may take its time."""
        means, held, settlement = self._means, self._held, self._settlement
        is_sent = settlement.sent != UNSENT
        told = means.queue.settle_soon(settlement.entry(ANSWER)) if is_sent else None
        try:
            if answer is None:
                written = await means.sink.commit(held.task.id, held.lease.token, items)
            else:
                whose = settlement.payload
                written = await means.sink.commit(
                    held.task.id,
                    held.lease.token,
                    items,
                    page=answer,
                    resource=whose["resource"],
                    seed=whose.get("seed"),
                )
        finally:
            if told is not None:
                await told
        means.tally.items += written  # not in one line: others add to it while we wait

    async def _started(self, starts: Sequence[WalkStart]) -> list[NewTask]:
        """The first pages of walks, from where the last ones ended."""
        if not starts:
            return []
        tasks = await started(self._means.states, starts)
        self._means.tally.skipped += tasks.count(None)
        return [task for task in tasks if task is not None]
