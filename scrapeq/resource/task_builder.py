"""Builds the tasks of a plan: from seeds, from records, and from the previous page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from scrapeq.errors import UsageError
from scrapeq.plan import Endpoint, Plan, Resource
from scrapeq.protocols import Change, CursorState, IncrementalStart
from scrapeq.resource.address import clean, get_param, set_params
from scrapeq.resource.ancestor_fields import inherited_fields, select_fields
from scrapeq.resource.identity import Ancestry, Identities, ancestry_of, ancestry_of_seed
from scrapeq.resource.incremental import incremental_scope, restart_without_token, start_progress
from scrapeq.resource.next_request import (
    ParamPosition,
    PositionKind,
    Request,
    apply_change,
    payload_key,
    request_of,
)
from scrapeq.resource.payload import PAYLOAD_VERSION, IncrementalProgress, PaginationState, Payload
from scrapeq.resource.request import build_request
from scrapeq.resource.restart import record_first_page, restart_payload, restartable_resources
from scrapeq.sealing import Sealer
from scrapeq.task import Group, NewTask

GroupOf = Callable[[str, str, str, Mapping[str, Any], Any], Group]
"""(resource, method, url, seed, parent) -> the group of limits that the request belongs to."""


@dataclass(frozen=True, slots=True)
class ChildPage:
    """The first page that follows from a record, once the state of its cursor is known."""

    builder: TaskBuilder
    resource: Resource
    ancestry: Ancestry
    depth: int
    priority: float
    now_s: float

    def __call__(self, state: CursorState | None) -> NewTask | None:
        """Return its task; None if there is nothing to request."""
        return self.builder.child_page(self, state)


class TaskBuilder:
    """
    Builds the tasks of one plan. Pure: it sends and stores nothing.

    Args:
        plan: `client.base_url` must be a real URL (the caller replaces `demo://`).
        group_of: Returns the group of limits of a request.
    """

    def __init__(self, plan: Plan, group_of: GroupOf) -> None:
        self.plan = plan
        self._group_of = group_of
        self._inherited = inherited_fields(plan)
        self._restartable = restartable_resources(plan)
        self._identities = Identities(plan)
        auth = plan.client.auth
        self._sealer = Sealer(plan.client.secrets)
        self._secret_name = auth.name if auth.type == "api_key" and auth.location == "query" else ""

    def seed_start(
        self,
        resource: Resource,
        seed: Mapping[str, Any],
        priority: float,
        delay_s: float,
        now_s: float,
        occurrence: int = 0,
    ) -> NewTask | IncrementalStart | None:
        """
        Return the first page of a seed, or how to build it once its cursor state is known.

        None if a null in the path leaves nothing to request.
        """
        ancestry = ancestry_of_seed(resource, seed, occurrence)

        def build(state: CursorState | None) -> NewTask | None:
            return self._first_page(resource, ancestry, 0, priority, delay_s, now_s, state)

        if _endpoint(resource).incremental is None:
            return build(None)
        return IncrementalStart(self._identities.state_key(resource, ancestry)[0], build)

    def from_seed(
        self,
        resource: Resource,
        seed: Mapping[str, Any],
        priority: float,
        delay_s: float,
        now_s: float,
        state: CursorState | None = None,
    ) -> NewTask | None:
        """Return the first page of a seed; None if a null in the path leaves nothing to request."""
        ancestry = ancestry_of_seed(resource, seed)
        return self._first_page(resource, ancestry, 0, priority, delay_s, now_s, state)

    def from_url(
        self,
        resource: Resource,
        url: str,
        priority: float,
        delay_s: float,
        seed: Mapping[str, Any] | None = None,
    ) -> NewTask:
        """
        Return a task for a URL as it is; the resource reads the response.

        Raises:
            UsageError: it is not an http(s) URL.
        """
        request = Request(_endpoint(resource).method.upper(), clean(url), {})
        seed = {"url": url} if seed is None else seed
        payload = self._payload(resource, request, seed=seed, parent=None, edge=None, parents={}, depth=0)
        return self._task(payload, priority, None, delay_s)

    def from_request(
        self,
        resource: Resource,
        request: Request,
        priority: float,
        *,
        seed: Mapping[str, Any],
        parent: Any = None,
        edge: str | None = None,
        ancestors: Mapping[str, Any] | None = None,
        depth: int = 0,
        occurrence: int = 0,
    ) -> NewTask:
        """
        Return a task for a request as it is; for the other arguments see `child_start`.

        Raises:
            UsageError: its URL is not an http(s) URL, or the resource has no endpoint.
        """
        _endpoint(resource)
        request = replace(request, url=clean(request.url))
        payload = self._payload(
            resource, request, seed=seed, parent=parent, edge=edge, parents=ancestors or {}, depth=depth
        )
        if occurrence:
            payload["occurrence"] = occurrence
        return self._task(payload, priority, parent)

    def child_start(
        self,
        resource: Resource,
        edge: str,
        *,
        seed: Mapping[str, Any],
        parent: Any,
        ancestors: Mapping[str, Any],
        depth: int,
        priority: float,
        now_s: float,
        occurrence: int = 0,
    ) -> NewTask | IncrementalStart | None:
        """
        Return the first page that follows from a record, or how to build it once its cursor state is known.

        Args:
            resource: The resource of the page.
            edge: The name of the parent's resource.
            seed: The seed.
            parent: The record, or the element of it.
            ancestors: The records above, the parent's own among them, by resource.
            depth: The number of records between the seed and this page.
            priority: The task's priority.
            now_s: Unix seconds, for `now` in expressions.
            occurrence: The number of the parent's scheduled run; 0 = none.

        Returns:
            None if a null in the path leaves nothing to request.

        Raises:
            UsageError: the record's values make an invalid request.
        """
        ancestry = Ancestry(seed, parent, edge, ancestors, occurrence)
        if _endpoint(resource).incremental is None:
            return self._first_page(resource, ancestry, depth, priority, 0.0, now_s, None)

        return self.start_of(ChildPage(self, resource, ancestry, depth, priority, now_s))

    def start_of(self, page: ChildPage) -> IncrementalStart:
        """Return the start of a page sequence with the key of its cursor state."""
        return IncrementalStart(self._identities.state_key(page.resource, page.ancestry)[0], page)

    def child_page(self, page: ChildPage, state: CursorState | None) -> NewTask | None:
        """Return the task of a child's first page; None if there is nothing to request."""
        try:
            return self._first_page(
                page.resource, page.ancestry, page.depth, page.priority, 0.0, page.now_s, state
            )
        except UsageError:  # one record with invalid values must not affect the page's other records
            return None

    def next_window(
        self, payload: Payload, progress: IncrementalProgress, priority: float, now_s: float
    ) -> NewTask | None:
        """
        Return the first page of the next window; None if a null in the path leaves nothing to request.

        Args:
            payload: That of the previous window's last page.
            progress: The `incremental` of the new payload.
            priority: The task's priority.
            now_s: Unix seconds, for `now` in expressions.
        """
        resource, ancestry = self.resource(payload["resource"]), ancestry_of(payload)
        return self._first_page(
            resource, ancestry, payload.get("depth", 0), priority, 0.0, now_s, None, progress=progress
        )

    def _first_page(
        self,
        resource: Resource,
        ancestry: Ancestry,
        depth: int,
        priority: float,
        delay_s: float,
        now_s: float,
        state: CursorState | None,
        *,
        progress: IncrementalProgress | None = None,
    ) -> NewTask | None:
        scope = self._scope(resource, ancestry.seed, ancestry.parent, ancestry.ancestors, depth, now_s)
        endpoint = _endpoint(resource)
        if endpoint.incremental is not None and progress is None:
            key, label = self._identities.state_key(resource, ancestry)
            progress = start_progress(endpoint.incremental, key, label, state, scope)
        scope["incremental"] = incremental_scope(progress)
        request = build_request(self.plan.client, endpoint, scope)
        if request is None:
            return None
        payload = self._payload(
            resource,
            request,
            seed=ancestry.seed,
            parent=ancestry.parent,
            edge=ancestry.edge,
            parents=ancestry.ancestors,
            depth=depth,
        )
        if progress is not None:
            payload["incremental"] = progress
        if ancestry.occurrence:
            payload["occurrence"] = ancestry.occurrence
            payload["chain"] = self._identities.chain_id(resource, ancestry)
        return self._task(payload, priority, ancestry.parent, delay_s)

    def next_page(
        self,
        payload: Payload,
        change: Change,
        priority: float,
        *,
        base: str = "",
        state: PaginationState | None = None,
        number: int | None = None,
    ) -> NewTask:
        """
        Return the task of the next page: the request of `payload` with the paginator's change applied.

        Args:
            payload: That of the previous page.
            change: What differs in the next request.
            priority: The task's priority.
            base: The URL of the previous page; empty = that of its request.
            state: The state that the next page gets, in place of that of the previous page.
            number: The number of the next page; None = the previous one plus 1.

        Raises:
            UsageError: the change makes an invalid request.
        """
        request = apply_change(request_of(payload), change, base or payload["url"])
        carried: PaginationState = {**((payload.get("walk") or {}) if state is None else state)}
        if change.headers:
            carried["headers"] = sorted({*carried.get("headers", ()), *change.headers})
        following: Payload = {
            **payload,
            "method": request.method,
            "url": request.url,
            "headers": request.headers,
            "body": request.body,
            "page": payload.get("page", 1) + 1 if number is None else number,
            "walk": carried,
        }
        if not carried:
            del following["walk"]
        if "until" in carried:
            following.pop("chain", None)  # a chain holds one page at a time, a fan-out all of them
        if payload["resource"] in self._restartable:
            following = record_first_page(payload, following)
        return self._task(following, priority, payload.get("parent"))

    def after_dead_page(self, payload: Payload, priority: float) -> NewTask | None:
        """
        Return the page after one that became a dead letter; None unless it is known to exist.

        Args:
            payload: That of the dead letter.
            priority: Its priority.

        Raises:
            UsageError: the page makes an invalid request.
        """
        walk = payload.get("walk") or {}
        ahead = walk.get("ahead")
        if ahead is None:
            return None
        state: PaginationState = {**walk, "incomplete": True}
        if ahead["left"] > 1:
            state["ahead"] = {**ahead, "at": ahead["at"] + ahead["step"], "left": ahead["left"] - 1}
        else:
            del state["ahead"]
        state.pop("same", None)
        kind, name = ahead["place"]
        change = ParamPosition(cast(PositionKind, kind), name).change(ahead["at"])
        if url := ahead.get("url"):
            change = Change(url=set_params(url, {name: str(ahead["at"])}))
        return self.next_page(payload, change, priority, state=state)

    def restart(self, payload: Payload, priority: float, now_s: float) -> NewTask | None:
        """
        Return the first page of a restarted pagination; None after RESETS_MAX restarts.

        If the server refused the first page itself, the new one goes without the stored token.

        Args:
            payload: That of the page that was refused.
            priority: The task's priority.
            now_s: Unix seconds, for `now` in expressions.
        """
        first_page = restart_payload(payload)
        if first_page is None:
            return None
        progress = payload.get("incremental")
        if progress is not None and payload.get("page", 1) == 1:
            resource, ancestry = self.resource(payload["resource"]), ancestry_of(payload)
            depth, incremental = payload.get("depth", 0), _endpoint(resource).incremental
            scope = self._scope(resource, ancestry.seed, ancestry.parent, ancestry.ancestors, depth, now_s)
            progress = None if incremental is None else restart_without_token(incremental, progress, scope)
            first = progress and self._first_page(
                resource, ancestry, depth, priority, 0.0, now_s, None, progress=progress
            )
            if first:
                rebuilt: Payload = first.payload
                first_page["url"], first_page["headers"] = rebuilt["url"], rebuilt["headers"]
                first_page["body"], first_page["incremental"] = rebuilt["body"], rebuilt["incremental"]
        return self._task(first_page, priority, first_page.get("parent"))

    def origin(self, payload: Payload) -> str:
        """Return a digest of what led to a page, a part of the identity of its records; empty if nothing did."""
        return self._identities.origin(self.resource(payload["resource"]), ancestry_of(payload))

    def resource(self, name: str) -> Resource:
        """
        Return the resource of that name.

        Raises:
            UsageError: there is none.
        """
        try:
            return self.plan.resource(name)
        except KeyError:
            known = ", ".join(resource.name for resource in self.plan.resources)
            raise UsageError(f"no resource is called {name!r}; known resources: {known}") from None

    def _scope(
        self,
        resource: Resource,
        seed: Mapping[str, Any],
        parent: Any,
        ancestors: Mapping[str, Any],
        depth: int,
        now_s: float,
    ) -> dict[str, Any]:
        return {
            "seed": seed,
            "parent": parent,
            "resources": ancestors,
            "depth": depth,
            "now": now_s,
            "resource": resource.name,
            "page": 1,
        }

    def _payload(
        self,
        resource: Resource,
        request: Request,
        *,
        seed: Mapping[str, Any],
        parent: Any,
        edge: str | None,
        parents: Mapping[str, Any],
        depth: int,
    ) -> Payload:
        inherited = self._inherited[resource.name]
        carried_parents = {
            name: select_fields(parents[name], fields)
            for name, fields in inherited.parents.items()
            if name in parents
        }
        return {
            "v": PAYLOAD_VERSION,
            "resource": resource.name,
            "method": request.method,
            "url": request.url,
            "headers": request.headers,
            "body": request.body,
            "seed": dict(seed),
            "parent": select_fields(parent, inherited.parent),
            "parent_resource": edge,
            "parents": carried_parents,
            "depth": depth,
            "page": 1,
        }

    def _task(self, payload: Payload, priority: float, parent: Any, delay_s: float = 0.0) -> NewTask:
        method, url = payload.get("method", "GET"), payload["url"]
        if self._secret_name and get_param(url, self._secret_name) is not None:
            # Servers echo the credential in their links. Stored tasks hold none: it is added when the request is sent.
            url = set_params(url, {self._secret_name: None})
            payload = {**payload, "url": url}
        if self._sealer:
            payload = self._sealer.seal_all(payload)
            url = payload["url"]
        group = self._group_of(payload["resource"], method, url, payload.get("seed") or {}, parent)
        key, occurrence = payload_key(payload), payload.get("occurrence", 0)
        # A request outside a chain is a chain of its own, since it may continue as another task (a poll, a hop).
        chain = payload.get("chain") or key if occurrence else ""
        return NewTask(payload, priority, delay_s, group, key, occurrence, chain)


def _endpoint(resource: Resource) -> Endpoint:
    if resource.endpoint is None:
        raise UsageError(
            f"{resource.name} has no endpoint: its records are part of its parent's; request the parent instead"
        )
    return resource.endpoint
