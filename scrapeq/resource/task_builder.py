"""Tasks out of a plan: from seeds, from records, from the page before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from scrapeq.errors import UsageError
from scrapeq.plan import Endpoint, Plan, Resource
from scrapeq.protocols import Change, CursorState, IncrementalStart
from scrapeq.resource.address import clean, get_param, set_params
from scrapeq.resource.ancestor_fields import inherited_fields, pruned
from scrapeq.resource.identity import Above, Identities, above_of, above_seed
from scrapeq.resource.incremental import Part, begun, restarted_bookmark, scope_of
from scrapeq.resource.next_request import Request, changed, payload_key, request_of
from scrapeq.resource.request import build_request
from scrapeq.resource.restart import restarted, restarting, with_first
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
        self._carried = inherited_fields(plan)
        self._restarting = restarting(plan)
        self._identities = Identities(plan)
        auth = plan.client.auth
        self._secret_name = auth.name if auth.type == "api_key" and auth.location == "query" else ""

    def seeded_start(
        self,
        resource: Resource,
        seed: Mapping[str, Any],
        priority: float,
        delay_s: float,
        now_s: float,
        occurrence: int = 0,
    ) -> NewTask | IncrementalStart | None:
        """What begins with a seed; None when a null in the path leaves nothing to ask for."""
        above = above_seed(resource, seed, occurrence)

        def build(state: CursorState | None) -> NewTask | None:
            return self._first_page(resource, above, 0, priority, delay_s, now_s, state)

        if _endpoint(resource).incremental is None:
            return build(None)
        return IncrementalStart(self._identities.state_key(resource, above)[0], build)

    def seeded(
        self,
        resource: Resource,
        seed: Mapping[str, Any],
        priority: float,
        delay_s: float,
        now_s: float,
        state: CursorState | None = None,
    ) -> NewTask | None:
        """The first page for one seed; None when a null in the path leaves nothing to ask for."""
        above = above_seed(resource, seed)
        return self._first_page(resource, above, 0, priority, delay_s, now_s, state)

    def at_url(
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

    def requested(
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
        above = Above(seed, parent, edge, ancestors, occurrence)
        if _endpoint(resource).incremental is None:
            return self._first_page(resource, above, depth, priority, 0.0, now_s, None)

        def build(state: CursorState | None) -> NewTask | None:
            try:
                return self._first_page(resource, above, depth, priority, 0.0, now_s, state)
            except UsageError:  # its values make no address: the page's other records make theirs
                return None

        return IncrementalStart(self._identities.state_key(resource, above)[0], build)

    def next_window(self, payload: Payload, part: Part, priority: float, now_s: float) -> NewTask | None:
        """
        The first page of the next window of a walk; None when a null in the path leaves nothing to ask for.

        Args:
            payload: Of the last page of the window before.
            part: What its payload's `incremental` will be.
            priority: Its rank.
            now_s: Unix seconds, for `now` in expressions.
        """
        resource, above = self.resource(payload["resource"]), above_of(payload)
        return self._first_page(
            resource, above, payload.get("depth", 0), priority, 0.0, now_s, None, part=part
        )

    def _first_page(
        self,
        resource: Resource,
        above: Above,
        depth: int,
        priority: float,
        delay_s: float,
        now_s: float,
        state: CursorState | None,
        *,
        part: Part | None = None,
    ) -> NewTask | None:
        scope = self._scope(resource, above.seed, above.parent, above.ancestors, depth, now_s)
        endpoint = _endpoint(resource)
        if endpoint.incremental is not None and part is None:
            key, label = self._identities.state_key(resource, above)
            part = begun(endpoint.incremental, key, label, state, scope)
        scope["incremental"] = scope_of(part)
        request = build_request(self.plan.client, endpoint, scope)
        if request is None:
            return None
        payload = self._payload(
            resource,
            request,
            seed=above.seed,
            parent=above.parent,
            edge=above.edge,
            parents=above.ancestors,
            depth=depth,
        )
        if part is not None:
            payload["incremental"] = part
        if above.occurrence:
            payload |= {"occurrence": above.occurrence, "chain": self._identities.walk(resource, above)}
        return self._task(payload, priority, above.parent, delay_s)

    def next_page(
        self,
        payload: Payload,
        change: Change,
        priority: float,
        *,
        base: str = "",
        walk: Mapping[str, Any] | None = None,
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
        request = changed(request_of(payload), change, base or payload["url"])
        kept = dict((payload.get("walk") or {}) if walk is None else walk)
        if change.headers:
            kept["headers"] = sorted({*kept.get("headers", ()), *change.headers})
        following = {
            **payload,
            "url": request.url,
            "headers": request.headers,
            "body": request.body,
            "page": payload.get("page", 1) + 1 if number is None else number,
            "walk": kept,
        }
        if not kept:
            del following["walk"]
        if "until" in kept:
            following.pop("chain", None)  # pages all at once are no chain
        if payload["resource"] in self._restarting:
            following = with_first(payload, following)
        return self._task(following, priority, payload.get("parent"))

    def restart(self, payload: Payload, priority: float, now_s: float) -> NewTask | None:
        """
        The walk's first page again; where it is the first page that was refused, without the token that was kept.

        None when that was done often enough. `now_s`: Unix seconds, for `now` in expressions.
        """
        anew = restarted(payload)
        if anew is None:
            return None
        part = payload.get("incremental")
        if part is not None and payload.get("page", 1) == 1:
            resource, above = self.resource(payload["resource"]), above_of(payload)
            depth, incremental = payload.get("depth", 0), _endpoint(resource).incremental
            scope = self._scope(resource, above.seed, above.parent, above.ancestors, depth, now_s)
            part = None if incremental is None else restarted_bookmark(incremental, part, scope)
            first = part and self._first_page(resource, above, depth, priority, 0.0, now_s, None, part=part)
            if first:
                anew |= {name: first.payload[name] for name in ("url", "headers", "body", "incremental")}
        return self._task(anew, priority, anew.get("parent"))

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
        carried = self._carried[resource.name]
        above = {
            name: pruned(parents[name], fields) for name, fields in carried.parents.items() if name in parents
        }
        return {
            "v": PAYLOAD_VERSION,
            "resource": resource.name,
            "method": request.method,
            "url": request.url,
            "headers": request.headers,
            "body": request.body,
            "seed": dict(seed),
            "parent": pruned(parent, carried.parent),
            "parent_resource": edge,
            "parents": above,
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
        walk = payload.get("chain") or key if occurrence else ""
        return NewTask(payload, priority, delay_s, group, key, occurrence, walk)


def _endpoint(resource: Resource) -> Endpoint:
    if resource.endpoint is None:
        raise UsageError(f"{resource.name} has no endpoint: it is taken from its parent's records")
    return resource.endpoint
