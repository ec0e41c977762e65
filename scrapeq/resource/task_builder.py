"""Tasks out of a plan: from seeds, from records, from the page before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from scrapeq.errors import UsageError
from scrapeq.plan import Endpoint, Plan, Resource
from scrapeq.protocols import Change, CursorState, IncrementalStart
from scrapeq.resource.address import clean, get_param, set_params
from scrapeq.resource.ancestor_fields import inherited_fields, select_fields
from scrapeq.resource.identity import Ancestry, Identities, ancestry_of, ancestry_of_seed
from scrapeq.resource.incremental import IncrementalProgress, start_progress, restart_without_token, incremental_scope
from scrapeq.resource.next_request import Request, apply_change, payload_key, request_of
from scrapeq.resource.request import build_request
from scrapeq.resource.restart import restart_payload, restartable_resources, record_first_page
from scrapeq.task import Group, NewTask

PAYLOAD_VERSION = 1

Payload = dict[str, Any]
GroupOf = Callable[[str, str, str, Mapping[str, Any], Any], Group]
"""(resource, method, url, seed, parent) -> the group of limits that the request belongs to."""


def check_payload(payload: Any) -> Payload:
    """
    A payload that this version can read.

    Raises:
        UsageError: it is none, or a newer one.
    """
    if not isinstance(payload, dict) or not isinstance(payload.get("resource"), str):
        raise UsageError("the payload is none that scrapeq made: it names no resource")
    if payload.get("v") != PAYLOAD_VERSION:
        raise UsageError(f"the payload has version {payload.get('v')!r}; this scrapeq reads version 1")
    if not isinstance(payload.get("url"), str):
        raise UsageError("the payload is none that scrapeq made: it has no url")
    return payload


class TaskBuilder:
    """
    Builds the tasks of one plan. Pure: it sends and stores nothing.

    Args:
        plan: `client.base_url` must be the real address (the caller replaces `demo://`).
        group_of: Says which limits a request belongs to.
    """

    def __init__(self, plan: Plan, group_of: GroupOf) -> None:
        self.plan = plan
        self._group_of = group_of
        self._inherited = inherited_fields(plan)
        self._restartable = restartable_resources(plan)
        self._identities = Identities(plan)
        auth = plan.client.auth
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
        """What begins with a seed; None when a null in the path leaves nothing to ask for."""
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
        """The first page for one seed; None when a null in the path leaves nothing to ask for."""
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
        A task for an address as it is; the resource says how to read the answer.

        Raises:
            UsageError: it is no http(s) address.
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
        A task for a request as it is; for the rest see `child_start`.

        Raises:
            UsageError: its address is no http(s) address, or the resource has no endpoint.
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
        The first page that follows from a record; an incremental walk's task is built once it is known what was kept.

        Args:
            resource: Whose page it is.
            edge: The parent's resource.
            seed: The seed that it all began with.
            parent: The record, or the element of it.
            ancestors: The records above by their resource, the parent's own among them.
            depth: How many records lie between it and the seed.
            priority: Its rank.
            now_s: Unix seconds, for `now` in expressions.
            occurrence: Of the schedule that the parent's page is asked for in; 0 = none.

        Returns:
            None when a null in the path leaves nothing to ask for.

        Raises:
            UsageError: the record's values make no request.
        """
        ancestry = Ancestry(seed, parent, edge, ancestors, occurrence)
        if _endpoint(resource).incremental is None:
            return self._first_page(resource, ancestry, depth, priority, 0.0, now_s, None)

        def build(state: CursorState | None) -> NewTask | None:
            try:
                return self._first_page(resource, ancestry, depth, priority, 0.0, now_s, state)
            except UsageError:  # its values make no address: the page's other records make theirs
                return None

        return IncrementalStart(self._identities.state_key(resource, ancestry)[0], build)

    def next_window(self, payload: Payload, progress: IncrementalProgress, priority: float, now_s: float) -> NewTask | None:
        """
        The first page of the next window of a walk; None when a null in the path leaves nothing to ask for.

        Args:
            payload: Of the last page of the window before.
            part: What its payload's `incremental` will be.
            priority: Its rank.
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
            payload |= {"occurrence": ancestry.occurrence, "chain": self._identities.chain_id(resource, ancestry)}
        return self._task(payload, priority, ancestry.parent, delay_s)

    def next_page(
        self,
        payload: Payload,
        change: Change,
        priority: float,
        *,
        base: str = "",
        pagination: Mapping[str, Any] | None = None,
        number: int | None = None,
    ) -> NewTask:
        """
        The request of `payload` again, but for what the paginator changes; all else stays.

        Args:
            payload: The page's before.
            change: What is other in the next page's request.
            priority: Its rank.
            base: Where the page came from; empty = what was asked for.
            walk: What the payload keeps of the walk, in place of what it kept.
            number: The next page's number in its walk; None = one more.

        Raises:
            UsageError: the change makes no request.
        """
        request = apply_change(request_of(payload), change, base or payload["url"])
        state_of_pages = dict((payload.get("walk") or {}) if pagination is None else pagination)
        if change.headers:
            state_of_pages["headers"] = sorted({*state_of_pages.get("headers", ()), *change.headers})
        following = {
            **payload,
            "url": request.url,
            "headers": request.headers,
            "body": request.body,
            "page": payload.get("page", 1) + 1 if number is None else number,
            "walk": state_of_pages,
        }
        if not state_of_pages:
            del following["walk"]
        if "until" in state_of_pages:
            following.pop("chain", None)  # pages all at once are no chain
        if payload["resource"] in self._restartable:
            following = record_first_page(payload, following)
        return self._task(following, priority, payload.get("parent"))

    def restart(self, payload: Payload, priority: float, now_s: float) -> NewTask | None:
        """
        The walk's first page again; where it is the first page that was refused, without the token that was kept.

        None when that was done often enough. `now_s`: Unix seconds, for `now` in expressions.
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
            first = progress and self._first_page(resource, ancestry, depth, priority, 0.0, now_s, None, progress=progress)
            if first:
                first_page |= {name: first.payload[name] for name in ("url", "headers", "body", "incremental")}
        return self._task(first_page, priority, first_page.get("parent"))

    def resource(self, name: str) -> Resource:
        """
        The resource of that name.

        Raises:
            UsageError: there is none.
        """
        try:
            return self.plan.resource(name)
        except KeyError:
            known = ", ".join(resource.name for resource in self.plan.resources)
            raise UsageError(f"no resource is called {name!r}; there are: {known}") from None

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
        ancestry = {
            name: select_fields(parents[name], fields) for name, fields in inherited.parents.items() if name in parents
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
            "parents": ancestry,
            "depth": depth,
            "page": 1,
        }

    def _task(self, payload: Payload, priority: float, parent: Any, delay_s: float = 0.0) -> NewTask:
        method, url = payload.get("method", "GET"), payload["url"]
        if self._secret_name and get_param(url, self._secret_name) is not None:
            # Servers echo the credential in the links they give; a stored task holds none, and it is added when sent.
            url = set_params(url, {self._secret_name: None})
            payload = {**payload, "url": url}
        group = self._group_of(payload["resource"], method, url, payload.get("seed") or {}, parent)
        key, occurrence = payload_key(payload), payload.get("occurrence", 0)
        # what is no page of a chain is its own: it may go on as another task (a poll, a hop)
        pagination = payload.get("chain") or key if occurrence else ""
        return NewTask(payload, priority, delay_s, group, key, occurrence, pagination)


def _endpoint(resource: Resource) -> Endpoint:
    if resource.endpoint is None:
        raise UsageError(f"{resource.name} has no endpoint: it is taken from its parent's records")
    return resource.endpoint
