"""Redirects: each hop has limits of its own, and one that meets a closed limit becomes the task."""

from __future__ import annotations

from dataclasses import replace

from scrapeq.fetch import HopClosed
from scrapeq.resource import payload_key
from scrapeq.supervise.means import Means
from scrapeq.supervise.settlement import Settlement
from scrapeq.supervise.slots import Held

MAX_HOPS = 10  # redirects of one task, over all the limits that they had to wait for


class Hops:
    """The redirect hops of one visit."""

    def __init__(self, means: Means, held: Held, settlement: Settlement) -> None:
        self._means = means
        self._held = held
        self._settlement = settlement

    async def may_go(self, url: str, method: str) -> bool:
        """May this redirect hop be sent now? Its own limits say; their grant is held until its answer."""
        means = self._means
        means.tally.redirects += 1
        group = self._settlement.group(method, url)
        grant = await means.queue.acquire(group, member=self._held.lease.member)
        if grant is None:
            return False
        self._settlement.hops.append(grant)
        self._settlement.hop_group = group
        means.tally.requests += 1
        return True

    async def push(self, hop: HopClosed) -> None:
        """A hop that meets a closed limit becomes the task; it has no identity, for its address may be others' too."""
        settlement = self._settlement
        payload = settlement.payload
        settlement.answered_s = self._means.clock.monotonic_s()
        settlement.close_hops()
        hops = payload.get("hops", 0) + len(settlement.hops) + 1
        if hops > MAX_HOPS:
            await settlement.bury(f"more than {MAX_HOPS} redirects, the last to {hop.url}")
            return
        following = {
            **payload,
            "method": hop.method,
            "url": hop.url,
            "headers": dict(hop.headers),
            "body": hop.body.decode("utf-8", "replace") if hop.body is not None else None,
            "hops": hops,
        }
        group = settlement.group(hop.method, hop.url)
        task = settlement.goes_on(following, group)
        if occurrence := payload.get(
            "occurrence", 0
        ):  # its walk goes on here, so the next occurrence waits for it
            key, chain = f"hop {hops} {payload_key(payload)}", payload.get("chain", "")
            task = replace(task, key=key, occurrence=occurrence, walk=chain)
        await settlement.done([task])
