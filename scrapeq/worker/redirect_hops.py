"""Redirects: each hop has limits of its own, and one that meets a closed limit becomes the task."""

from __future__ import annotations

from typing import Final

from scrapeq.fetch import HopClosed
from scrapeq.resource import Payload
from scrapeq.resource.payload import RequestFields
from scrapeq.worker.context import WorkerContext
from scrapeq.worker.settlement import Settlement
from scrapeq.worker.slots import LeasedTask

HOPS: Final = "hops"  # a member of the payload: how many there were
ASKED: Final = "asked"  # and the request that the first of them began with
MAX_HOPS = 10  # redirects of one task, over all the limits that they had to wait for


class RedirectHops:
    """The redirect hops of one visit."""

    def __init__(self, context: WorkerContext, leased: LeasedTask, settlement: Settlement) -> None:
        self._context = context
        self._leased = leased
        self._settlement = settlement

    async def may_go(self, url: str, method: str) -> bool:
        """May this redirect hop be sent now? Its own limits say; their grant is held until its answer."""
        context = self._context
        context.tally.redirects += 1
        group = self._settlement.group(method, url)
        grant = await context.queue.acquire(group, credential=self._leased.lease.credential)
        if grant is None:
            return False
        self._settlement.hops.append(grant)
        self._settlement.hop_group = group
        context.tally.requests += 1
        return True

    async def push(self, hop: HopClosed) -> None:
        """A hop that meets a closed limit becomes the task; it has no identity, for its address may be others' too."""
        settlement = self._settlement
        payload = settlement.payload
        settlement.answered_s = self._context.clock.monotonic_s()
        settlement.close_hops()
        hops = payload.get(HOPS, 0) + len(settlement.hops) + 1
        if hops > MAX_HOPS:
            await settlement.bury(f"more than {MAX_HOPS} redirects, the last to {hop.url}")
            return
        own: RequestFields = {
            "method": payload.get("method", "GET"),
            "url": payload["url"],
            "headers": payload.get("headers") or {},
            "body": payload.get("body"),
        }
        following: Payload = {
            ASKED: own,  # of the first hop, if there was one before
            **payload,
            "method": hop.method,
            "url": hop.url,
            "headers": dict(hop.headers),
            "body": hop.body.decode("utf-8", "replace") if hop.body is not None else None,
            HOPS: hops,
        }
        await settlement.done([settlement.goes_on(following, settlement.group(hop.method, hop.url))])


def without_hops(payload: Payload) -> Payload:
    """The payload as it was before the first hop: what follows from the answer follows from what was asked for."""
    if HOPS not in payload:
        return payload
    own = payload.copy()
    del own[HOPS]
    asked = own.pop(ASKED, None)
    return own if asked is None else {**own, **asked}
