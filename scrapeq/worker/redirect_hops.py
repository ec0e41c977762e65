"""Redirects: each hop has limits of its own, and a hop that meets a closed limit becomes the task."""

from __future__ import annotations

from typing import Final

from scrapeq.fetch import HopClosed
from scrapeq.resource import Payload
from scrapeq.resource.payload import RequestFields
from scrapeq.worker.settlement import Settlement

MAX_HOPS = 10  # redirects of one task, including those that waited for a limit

HOPS: Final = "hops"  # payload key: the number of hops so far
ASKED: Final = "asked"  # payload key: the request before the first hop


async def may_send_hop(task: Settlement, method: str, url: str) -> bool:
    """Take a grant from the limits of a hop, held until the response; return whether they granted it."""
    context = task.context
    context.tally.redirects += 1
    group = task.group(method, url)
    grant = await context.queue.acquire(group, credential=task.leased.lease.credential)
    if grant is None:
        return False
    task.hops.append(grant)
    task.hop_group = group
    context.tally.requests += 1
    return True


async def push_hop(task: Settlement, hop: HopClosed) -> None:
    """
    Continue the task as the hop that met a closed limit.

    The hop has no identity of its own: other tasks may redirect to the same address.
    """
    payload = task.payload
    task.received_s = task.context.clock.monotonic_s()
    task.settle_hops()
    hops = payload.get(HOPS, 0) + len(task.hops) + 1
    if hops > MAX_HOPS:
        await task.bury(f"more than {MAX_HOPS} redirects, the last one to {hop.url}")
        return
    own_request: RequestFields = {
        "method": payload.get("method", "GET"),
        "url": payload["url"],
        "headers": payload.get("headers") or {},
        "body": payload.get("body"),
    }
    following: Payload = {
        ASKED: own_request,  # `payload` overrides it when there was an earlier hop
        **payload,
        "method": hop.method,
        "url": hop.url,
        "headers": dict(hop.headers),
        "body": hop.body.decode("utf-8", "replace") if hop.body is not None else None,
        HOPS: hops,
    }
    if hop.cookies:
        following["cookies"] = list(hop.cookies)
    await task.done([task.continued(following, task.group(hop.method, hop.url))])


def without_hops(payload: Payload) -> Payload:
    """Return the payload as it was before the first hop: pages and children follow from the original request."""
    if HOPS not in payload:
        return payload
    own = payload.copy()
    del own[HOPS]
    own.pop("cookies", None)
    original = own.pop(ASKED, None)
    return own if original is None else {**own, **original}
