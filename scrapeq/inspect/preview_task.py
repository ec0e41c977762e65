"""Build the task of one page for a preview: from a seed, from a parent record, or from a URL."""

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
    Return the task of a page.

    Args:
        plan: The plan, with the real URL in `client.base_url`.
        resource: Name of the resource; "" = the first that starts by itself, with a URL the only one.
        url: The URL to request; "" = that of the resource's first page.
        seed: The values of the seed; None = the first seed of the plan.
        parent: The parent record, for a resource that has a parent.
        cursor_store: The cursors of incremental resources; None = start from the initial value.

    Raises:
        UsageError: These arguments do not lead to a request.
    """
    builder = TaskBuilder(plan, group_function(plan))
    kind = builder.resource(resource or (only_resource(plan) if url else _first_resource(plan)))
    if kind.endpoint is None:
        names = " or ".join(one.resource for one in kind.parents)
        raise UsageError(
            f"{kind.name} is not requested itself: its records come from pages of {names}; fetch one of those"
        )
    now_s = time.time()
    if url:
        return builder.from_url(kind, url, now_s, 0.0, seed)
    values = seed if seed is not None else next(seeds_of(plan, kind)).values
    if parent is not None:
        if not kind.parents:
            raise UsageError(f"--parent: {kind.name} does not have a parent")
        edge = kind.parents[0].resource
        start = builder.child_start(
            kind,
            edge,
            seed=values,
            parent=parent,
            ancestors={edge: parent},
            depth=1,
            priority=now_s,
            now_s=now_s,
        )
    else:
        if not starts_by_itself(kind) and seed is None:
            names = ", ".join(one.resource for one in kind.parents)
            raise UsageError(
                f"{kind.name} follows from {names}: give the parent's values (--parent K=V), or a URL"
            )
        start = builder.seed_start(kind, values, now_s, 0.0, now_s)
    if isinstance(start, IncrementalStart):
        (cursor,) = await cursor_store.get_many([start.state_key]) if cursor_store is not None else (None,)
        start = start.build(cursor)
    if start is None:
        source = f"seed {dict(values)}" + (f" and parent {dict(parent)}" if parent is not None else "")
        raise UsageError(f"{kind.name}: a value in the path is null or missing in {source}")
    return start


def _first_resource(plan: Plan) -> str:
    """Return the first resource that does not follow from another, else the only one."""
    return next((one.name for one in plan.resources if starts_by_itself(one)), "") or only_resource(plan)


def only_resource(plan: Plan) -> str:
    """Return the name of the only resource that sends requests. Raises UsageError if there are several."""
    names = [one.name for one in plan.resources if one.endpoint is not None]
    if len(names) == 1:
        return names[0]
    raise UsageError(
        f"several resources could read the response; choose one with --resource: {', '.join(names)}"
    )
