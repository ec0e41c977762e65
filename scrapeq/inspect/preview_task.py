"""The task of one page, by hand: of a seed, of a parent's record, or an address."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from scrapeq.errors import UsageError
from scrapeq.plan import Plan
from scrapeq.protocols import CursorStore, IncrementalStart
from scrapeq.resource import TaskBuilder
from scrapeq.resource.seeds import seeds_of, starts_by_itself
from scrapeq.task import NewTask
from scrapeq.wiring import group_function


async def first_page(
    plan: Plan,
    resource: str = "",
    url: str = "",
    seed: Mapping[str, Any] | None = None,
    parent: Mapping[str, Any] | None = None,
    cursor_store: CursorStore | None = None,
) -> NewTask:
    """
    The task of a page.

    Args:
        plan: `client.base_url` must be the real address.
        resource: Whose page it is; "" = the only one that has pages.
        url: Its address; "" = that of the resource's first page.
        seed: The seed's values; None = the first seed that there is.
        parent: The parent's record, for a resource that has one.
        states: What incremental walks keep.

    Raises:
        UsageError: nothing can be asked for so.
    """
    builder = TaskBuilder(plan, group_function(plan))
    kind = builder.resource(resource or (_only(plan) if url else _first(plan)))
    if kind.endpoint is None:
        names = " or ".join(one.resource for one in kind.parents)
        raise UsageError(f"{kind.name} has no endpoint: it is seen on a page of {names}")
    now_s = time.time()
    if url:
        return builder.from_url(kind, url, now_s, 0.0, seed)
    own = seed if seed is not None else next(seeds_of(plan, kind)).values
    if parent is not None:
        if not kind.parents:
            raise UsageError(f"{kind.name} has no parent")
        edge = kind.parents[0].resource
        above = {edge: parent}
        first = builder.child_start(
            kind, edge, seed=own, parent=parent, ancestors=above, depth=1, priority=now_s, now_s=now_s
        )
    else:
        if not starts_by_itself(kind) and seed is None:
            names = ", ".join(one.resource for one in kind.parents)
            raise UsageError(f"{kind.name} follows from {names}: give --parent K=V, or an address")
        first = builder.seed_start(kind, own, now_s, 0.0, now_s)
    if isinstance(first, IncrementalStart):
        (kept,) = await cursor_store.get_many([first.state_key]) if cursor_store is not None else (None,)
        first = first.build(kept)
    if first is None:
        what = f"seed {dict(own)}" + (f" and parent {dict(parent)}" if parent is not None else "")
        raise UsageError(f"{kind.name}: {what} leaves a null in the path")
    return first


def _first(plan: Plan) -> str:
    """The first resource that follows from none, else the only one."""
    return next((one.name for one in plan.resources if starts_by_itself(one)), "") or _only(plan)


def _only(plan: Plan) -> str:
    able = [one.name for one in plan.resources if one.endpoint is not None]
    if len(able) == 1:
        return able[0]
    raise UsageError(f"which resource reads the answer? --resource, one of {', '.join(able)}")
