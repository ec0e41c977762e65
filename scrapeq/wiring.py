"""
What commands build from a plan: groups, pools, the queue, the cursor store, and the settings of worker processes.

This module connects packages that do not import each other: limits to the queue, resources to the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from scrapeq import config
from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.limits.attribution import scopes_of
from scrapeq.limits.partition import ANY_TOKEN, POOL, group_of, token_digest
from scrapeq.plan import STATIC_AUTHS, LimitRule, Plan
from scrapeq.protocols import CursorStore, IncrementalStart
from scrapeq.queue import Queue
from scrapeq.queue.commands import PUSH_COUNT
from scrapeq.queue.connect import async_client
from scrapeq.queue.keys import key_of
from scrapeq.queue.worker_queue import WorkerQueue
from scrapeq.resource import GroupOf
from scrapeq.resource.cursor_store import RedisCursorStore
from scrapeq.responses.match import host_of
from scrapeq.task import Group, NewTask

GROUP_CACHE_MAX = 10_000  # cached groups, one for each host of a crawl

# --- groups and pools


def group_function(plan: Plan) -> GroupOf:
    """Return the function that maps a request to its group: the limits of the plan that apply to it."""
    auth = plan.client.auth
    token = ANY_TOKEN if auth.tokens else auth.identity
    resource_actions = [action for actions in plan.resource_actions.values() for action in actions]
    scopes = scopes_of([*plan.response_actions, *resource_actions])
    if auth.type not in STATIC_AUTHS:
        scopes |= {"token"}  # the limit that closes while no credential can be obtained

    def group(
        resource: str, method: str, url: str, seed: Mapping[str, Any] | None = None, parent: Any = None
    ) -> Group:
        return group_of(
            plan.rate_limits,
            resource=resource,
            method=method,
            url=url,
            token=token,
            seed=seed,
            parent=parent if isinstance(parent, Mapping) else None,
            scopes=scopes,
        )

    return _cached_by_host(group) if all(map(_depends_on_host_only, plan.rate_limits)) else group


def _cached_by_host(group: Callable[[str, str, str], Group]) -> GroupOf:
    """Return a function that computes the group once for each resource, method and host."""
    cache: dict[tuple[str, str, str], Group] = {}

    def cached_group(
        resource: str, method: str, url: str, seed: Mapping[str, Any] | None = None, parent: Any = None
    ) -> Group:
        key = (resource, method, host_of(url))
        found = cache.get(key)
        if found is None:
            if len(cache) >= GROUP_CACHE_MAX:
                cache.clear()
            found = cache[key] = group(resource, method, url)
        return found

    return cached_group


def _depends_on_host_only(rule: LimitRule) -> bool:
    """Whether the resource, method and host of a request decide its partition of the limit."""
    return (
        not rule.match.path
        and not rule.weights
        and all(key in ("host", "token", "resource") for key in rule.partition_by)
    )


def pool_credentials(plan: Plan) -> dict[str, str]:
    """
    Return the plan's credentials by digest; the store knows only the digests.

    A single credential is a pool, too: the queue may hold tasks from a time when there were more.
    """
    auth = plan.client.auth
    tokens = auth.tokens or (auth.identity,)
    return {token_digest(token): token for token in tokens if token}


def pools_of(plan: Plan) -> dict[str, list[str]]:
    """Return the digests of the plan's credentials by pool name; empty without credentials."""
    credentials = list(pool_credentials(plan))
    return {POOL: credentials} if credentials else {}


# --- the queue and what is stored beside it


def open_queue_of(plan: Plan, store_url: str, **settings: Any) -> tuple[WorkerQueue, Any]:
    """
    Return the plan's queue and its Redis client; the caller closes both.

    Args:
        plan: The plan.
        store_url: The URL of the store.
        settings: More arguments of `Queue`.
    """
    client = async_client(store_url)
    bound = plan.queue.max_tasks
    return WorkerQueue(client, plan.name, max_tasks=bound, on_full=plan.queue.on_full, **settings), client


def cursor_store_of(client: Any, queue: Queue) -> RedisCursorStore:
    """Return the store of how a queue's page sequences ended: cursors, and which are incomplete."""
    prefix = key_of(queue.name)[:-1]
    return RedisCursorStore(client, prefix + "state", prefix + "incomplete")


async def build_first_tasks(
    cursor_store: CursorStore, first_pages: Sequence[NewTask | IncrementalStart]
) -> list[NewTask | None]:
    """
    Return the tasks of first pages, in the same order.

    An incremental page sequence starts at its stored cursor; its task is None when nothing is left to request.
    """
    starts = [first for first in first_pages if isinstance(first, IncrementalStart)]
    states = iter(await cursor_store.get_many([start.state_key for start in starts]) if starts else ())
    return [
        first.build(next(states)) if isinstance(first, IncrementalStart) else first for first in first_pages
    ]


async def push_first_pages(
    queue: Queue, cursor_store: CursorStore, first_pages: Iterable[NewTask | IncrementalStart]
) -> int:
    """
    Push any number of first pages, in batches; return how many entered the queue.

    Raises:
        UsageError: a seed does not make a valid request.
        QueueFull, StoreError: as `Queue.push_many`.
    """
    pushed, remaining = 0, iter(first_pages)
    while batch := list(islice(remaining, PUSH_COUNT)):
        tasks = [task for task in await build_first_tasks(cursor_store, batch) if task is not None]
        pushed += sum(result.outcome == "pushed" for result in await queue.push_many(tasks))
    return pushed


# --- worker processes


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """
    What a child process needs to take part in a run; it travels as JSON.

    Args:
        file: The configuration file's path, for messages.
        source: Its text, as the supervisor read it.
        overrides: Values from the command line, by dotted key.
        store_url: The URL of the store.
        base_url: The address that replaces demo://; empty = the file's.
        writer_socket: The writer's socket.
        concurrency: Requests at once.
        lease_s: Seconds of a lease.
        max_requests: Stop after so many requests; None = never.
        max_items: Stop after so many items; None = never.
        removed: Resources that the file no longer has; their tasks are dropped.
        cache_file: Where responses are cached.
        tokens_file: Where obtained credentials are stored.
    """

    file: str
    source: str
    overrides: dict[str, Any]
    store_url: str
    base_url: str
    writer_socket: str = ""
    concurrency: int = 32
    lease_s: float = 60.0
    max_requests: int | None = None
    max_items: int | None = None
    removed: Sequence[str] = ()
    cache_file: str = ""
    tokens_file: str = ""


def load_plan(worker_settings: WorkerSettings) -> Plan:
    """Load the plan as the supervisor has read it."""
    plan = config.load(
        worker_settings.file, text=worker_settings.source, overrides=worker_settings.overrides, inputs=False
    )
    return with_base_url(plan, worker_settings.base_url)


def with_base_url(plan: Plan, base_url: str) -> Plan:
    """Return the plan with the address that `demo://` stands for; unchanged if it is empty."""
    return replace(plan, client=replace(plan.client, base_url=base_url)) if base_url else plan


# --- files


def tokens_file(folder: Path, plan: Plan) -> Path:
    """Return the file in which all processes of this machine store obtained credentials."""
    return folder / f"{plan.name}.tokens"


def response_cache(plan: Plan, file: str) -> ResponseCache | None:
    """Return the plan's cache of responses, in this file; None if the plan does not cache."""
    settings = plan.client.cache
    return ResponseCache(Path(file), max_size=settings.max_size) if settings is not None and file else None


def output_base() -> Path:
    """Return the folder to which relative output paths are relative: the one the command was started in."""
    return Path.cwd()
