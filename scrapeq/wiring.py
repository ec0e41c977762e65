"""Where the rooms are introduced: limits to the queue, the queue to the egress, the sink to the worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a child process needs to do its part of a run; crosses to it as JSON."""

    file: str
    source: str
    overrides: dict[str, Any]
    store_url: str
    base_url: str
    writer_socket: str = ""
    concurrency: int = 32
    lease_s: float = 60.0
    max_requests: int | None = None
    cache_file: str = ""
    tokens: str = ""  # the file that keeps what logins gave


def plan_of(worker_settings: WorkerSettings) -> Plan:
    """The plan of an errand, as the supervisor read it; demo:// replaced by the address it stands for."""
    plan = config.load(
        worker_settings.file, text=worker_settings.source, overrides=worker_settings.overrides, inputs=False
    )
    return with_base_url(plan, worker_settings.base_url)


def with_base_url(plan: Plan, base_url: str) -> Plan:
    """The plan with the address that `demo://` stands for."""
    return replace(plan, client=replace(plan.client, base_url=base_url)) if base_url else plan


GROUPS_KEPT = 10_000  # hosts, of a crawl


def group_function(plan: Plan) -> GroupOf:
    """Which limits a request belongs to, by the plan."""
    auth = plan.client.auth
    token = ANY_TOKEN if auth.tokens else auth.identity
    own = [action for actions in plan.resource_actions.values() for action in actions]
    scopes = scopes_of([*plan.response_actions, *own])
    if auth.type not in STATIC_AUTHS:
        scopes |= {"token"}  # what closes while none can be asked for

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

    if not all(map(_by_host, plan.rate_limits)):
        return group
    known: dict[tuple[str, str, str], Group] = {}

    def group_of_host(
        resource: str, method: str, url: str, seed: Mapping[str, Any] | None = None, parent: Any = None
    ) -> Group:
        key = (resource, method, host_of(url))
        found = known.get(key)
        if found is None:
            if len(known) >= GROUPS_KEPT:
                known.clear()
            found = known[key] = group(resource, method, url)
        return found

    return group_of_host


def _by_host(rule: LimitRule) -> bool:
    """Whether the resource, the method and the host of a request say all that the rule asks for."""
    return (
        not rule.match.path
        and not rule.weights
        and all(key in ("host", "token", "resource") for key in rule.partition_by)
    )


def pool_credentials(plan: Plan) -> dict[str, str]:
    """
    The credentials of the plan by what the store knows of them: their digests.

    One alone is a pool, too: tasks may be left from a time when there were more.
    """
    auth = plan.client.auth
    tokens = auth.tokens or (auth.identity,)
    return {token_digest(token): token for token in tokens if token}


def pools_of(plan: Plan) -> dict[str, list[str]]:
    """The pool of the plan's tokens, if it has any."""
    credentials = list(pool_credentials(plan))
    return {POOL: credentials} if credentials else {}


def open_queue_of(plan: Plan, store_url: str, **settings: Any) -> tuple[WorkerQueue, Any]:
    """The plan's queue over a store; and its client, which the caller closes."""
    client = async_client(store_url)
    bound = plan.queue.max_tasks
    return WorkerQueue(client, plan.name, max_tasks=bound, on_full=plan.queue.on_full, **settings), client


def cursor_store_of(client: Any, queue: Queue) -> RedisCursorStore:
    """What the incremental walks of a queue keep."""
    return RedisCursorStore(client, key_of(queue.name)[:-1] + "state")


def tokens_file(folder: Path, plan: Plan) -> Path:
    """Where what logins gave is kept, for all processes of a machine."""
    return folder / f"{plan.name}.tokens"


def response_cache(plan: Plan, file: str) -> ResponseCache | None:
    """Where answers are kept, if they are."""
    settings = plan.client.cache
    return ResponseCache(Path(file), max_size=settings.max_size) if settings is not None and file else None


def output_base() -> Path:
    """Relative output paths are relative to where the command was started."""
    return Path.cwd()


async def started(
    cursor_store: CursorStore, firsts: Sequence[NewTask | IncrementalStart]
) -> list[NewTask | None]:
    """Their tasks, in the same order: a walk's begins where the last one ended, None when nothing is to ask for."""
    walks = [first for first in firsts if isinstance(first, IncrementalStart)]
    kept = iter(await cursor_store.get_many([walk.state_key for walk in walks]) if walks else ())
    return [first.build(next(kept)) if isinstance(first, IncrementalStart) else first for first in firsts]


async def push_firsts(
    queue: Queue, cursor_store: CursorStore, firsts: Iterable[NewTask | IncrementalStart]
) -> int:
    """
    Push first pages, of which any number may come; how many entered the queue.

    Raises:
        UsageError: a seed makes no request.
        QueueFull, StoreError: as `Queue.push_many`.
    """
    pushed, coming = 0, iter(firsts)
    while piece := list(islice(coming, PUSH_COUNT)):
        tasks = [task for task in await started(cursor_store, piece) if task is not None]
        pushed += sum(one.outcome == "pushed" for one in await queue.push_many(tasks))
    return pushed
