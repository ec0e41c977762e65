"""What one value says of another: names that exist, names used where they mean nothing, cycles that never start."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from scrapeq.config.nodes import Node
from scrapeq.config.normalize import resources_of
from scrapeq.config.output_checks import check_output, check_shared_targets
from scrapeq.config.read_context import NOT_IMPLEMENTED, ExpressionUse, ReadContext
from scrapeq.config.records import ParsedMap
from scrapeq.config.request_checks import (
    check_auth,
    check_incremental,
    check_incremental_use,
    check_paginator,
    check_schedule,
    exclusive,
)
from scrapeq.expression import did_you_mean

DAY_S = 86_400
SCOPES = ("task", "limit", "host", "token", "all")


class CrossCheck:
    """One file's checks; every problem is noted, nothing is raised."""

    def __init__(self, root: ParsedMap, context: ReadContext) -> None:
        self._root = root
        self._reading = context
        self._resources = resources_of(root)
        self._by_name: dict[str, ParsedMap] = {}
        for found in self._resources:
            if isinstance(found.get("name"), str):
                self._by_name.setdefault(found.get("name"), found)

    def run(self) -> None:
        """All of them."""
        self._auth()
        self._unique(self._resources, "resource")
        limits = [limit for limit in self._root.get("rate_limits", ()) if isinstance(limit, ParsedMap)]
        self._unique(limits, "limit")
        self._limits(limits)
        self._actions(self._root, [limit.get("name") for limit in limits])
        for resource in self._resources:
            self._actions(resource, [limit.get("name") for limit in limits])
            self._resource(resource)
        self._cycles()
        self._outputs()
        for use in self._reading.uses:
            self._check_use(use)

    def _auth(self) -> None:
        client = self._root.get("client")
        auth = client.get("auth") if isinstance(client, ParsedMap) else None
        if isinstance(auth, ParsedMap):
            check_auth(auth, client.has("base_url"), self._reading)

    def _unique(self, found: Iterable[ParsedMap], what: str) -> None:
        seen: dict[str, int] = {}
        for one in found:
            name = one.get("name")
            if not isinstance(name, str):
                continue
            if name in seen:
                message = f"two {what}s are called '{name}'; the first is in line {seen[name]}"
                self._reading.report(one.value_node("name"), f"{one.field}.name", message)
            seen.setdefault(name, one.value_node("name").line)

    def _check_resource(self, name: str, node: Node, field: str, prefix: str = "") -> bool:
        if name in self._by_name:
            return True
        near = did_you_mean(name, self._by_name)
        known = ", ".join(self._by_name)
        hint = f"did you mean {near}?" if near else (f"resources: {known}" if known else "")
        self._reading.report(node, field, f"{prefix}no resource is called '{name}'", hint)
        return False

    def _check_resources(self, found: ParsedMap, key: str, prefix: str = "") -> None:
        node = found.value_node(key)
        for index, name in enumerate(found.get(key, ())):
            many = node.kind == "list"
            place = node.items[index] if many and index < len(node.items) else node
            self._check_resource(
                str(name), place, f"{found.field}.{key}" + (f"[{index}]" if many else ""), prefix
            )

    def _limits(self, limits: list[ParsedMap]) -> None:
        for limit in limits:
            match = limit.get("match")
            if isinstance(match, ParsedMap):
                self._check_resources(match, "resource", "can never match: ")
            for weight in limit.get("weights", ()):
                if isinstance(weight, ParsedMap) and isinstance(weight.get("match"), ParsedMap):
                    self._check_resources(weight.get("match"), "resource", "can never match: ")
            for rate in limit.get("rates", ()):
                if isinstance(rate, ParsedMap):
                    self._aligned(rate)
            told = limit.has("observe") and limit.get("observe") != "none"  # its answers say what it is
            if not told and not limit.has("rates") and not limit.has("max_concurrency"):
                message = "limits nothing: it has neither rates nor max_concurrency"
                self._reading.report(limit.node, limit.field, message, "rates: [{limit: 30, interval: 1m}]")

    def _aligned(self, rate: ParsedMap) -> None:
        interval_s = rate.get("interval")
        if not rate.has("aligned"):
            return
        if isinstance(interval_s, int | float) and DAY_S % interval_s and interval_s % DAY_S:
            message = "calendar windows divide a day, or are whole days"
            self._reading.report(
                rate.value_node("interval"), f"{rate.field}.interval", message, "1m, 1h, 6h, 1d, 7d"
            )
        if rate.has("burst"):
            message = "a calendar window is no token bucket"
            self._reading.report(
                rate.value_node("burst"), f"{rate.field}.burst", message, "keep one of burst and aligned"
            )

    def _actions(self, owner: ParsedMap, limits: list[str]) -> None:
        for action in owner.get("response_actions", ()):
            if not isinstance(action, ParsedMap):
                continue
            match = action.get("match")
            if isinstance(match, ParsedMap):
                self._check_resources(match, "resource", "can never match: ")
            scope = action.get("scope")
            if isinstance(scope, str) and scope not in (*SCOPES, *limits):
                near = did_you_mean(scope, [*SCOPES, *[name for name in limits if name]])
                one_of = f"one of {', '.join(SCOPES)}, or a limit's name"
                hint = f"did you mean {near}? {one_of}" if near else one_of
                self._reading.report(
                    action.value_node("scope"), f"{action.field}.scope", f"unknown scope '{scope}'", hint
                )

    def _resource(self, resource: ParsedMap) -> None:
        for parent in resource.get("parent", ()):
            if isinstance(parent, ParsedMap) and isinstance(parent.get("resource"), str):
                self._check_resource(
                    parent.get("resource"), parent.value_node("resource"), f"{parent.field}.resource"
                )
        if resource.has("include_from_parent") and not resource.has("parent"):
            field = f"{resource.field}.include_from_parent"
            self._reading.report(
                resource.value_node("include_from_parent"),
                field,
                "this resource has no parent",
                "add parent:",
            )
        if isinstance(resource.get("schedule"), ParsedMap):
            check_schedule(resource.get("schedule"), resource, self._reading)
        endpoint = resource.get("endpoint")
        if isinstance(endpoint, ParsedMap):
            self._endpoint(resource, endpoint)
        elif not resource.has("endpoint") and not resource.has("parent"):
            name = resource.get("name", "path")
            message = "has neither endpoint nor parent: there is nothing to take records from"
            if not self._reading.has_unimplemented(f"{resource.field}."):
                self._reading.report(resource.node, resource.field, message, f"endpoint: {name}")

    def _endpoint(self, resource: ParsedMap, endpoint: ParsedMap) -> None:
        exclusive(endpoint, ("path", "url"), self._reading)
        if not (endpoint.has("path") or endpoint.has("url") or self._addressed(resource)):
            hint = f"path: {resource.get('name', '')}".rstrip()
            if resource.has("parent") and endpoint.has(
                "data_selector"
            ):  # it means the parent's answer, or a record's
                hint += ", or without an endpoint parent: {resource: …, each: …} for a list inside the parent's records"
            self._reading.report(endpoint.node, endpoint.field, "has neither path nor url", hint)
        exclusive(endpoint, ("json", "data"), self._reading)
        paginator, incremental = endpoint.get("paginator"), endpoint.get("incremental")
        if isinstance(paginator, ParsedMap):
            check_paginator(paginator, endpoint, self._reading)
        if isinstance(incremental, ParsedMap):
            check_incremental(incremental, self._reading)
        path = endpoint.get("path")
        if path is None:
            return
        if path.source.startswith(("http://", "https://")):
            field = f"{endpoint.field}.path"
            self._reading.report(
                endpoint.value_node("path"),
                field,
                "a path is joined to base_url",
                "for a whole address write url:",
            )
        elif not self._root.node.get("client") or not self._root.node.entries["client"].node.get("base_url"):
            field = f"{endpoint.field}.path"
            hint = "client: {base_url: https://api.acme.test/v1}, or url: in place of path:"
            self._reading.report(endpoint.value_node("path"), field, "a path needs client.base_url", hint)

    def _addressed(self, resource: ParsedMap) -> bool:
        """Whether a resource without an address may have one from elsewhere: its seeds, or what is not built yet."""
        seeds = self._all_seeds([resource.get("name", "")])
        return seeds is None or "url" in seeds or self._reading.has_unimplemented(f"{resource.field}.")

    def _parents(self, name: str) -> list[str]:
        resource = self._by_name.get(name)
        if resource is None:
            return []
        found = [p.get("resource") for p in resource.get("parent", ()) if isinstance(p, ParsedMap)]
        return [parent for parent in found if isinstance(parent, str)]

    def ancestors(self, name: str) -> list[str]:
        """Every resource that leads to this one, the nearest first."""
        found: list[str] = []
        waiting = self._parents(name)
        while waiting:
            parent = waiting.pop(0)
            if parent not in found:
                found.append(parent)
                waiting += self._parents(parent)
        return found

    def _cycles(self) -> None:
        """Notes resources that nothing starts, once a cycle."""
        started = {n for n, r in self._by_name.items() if not self._parents(n) or r.has("seeds")}
        grown = True
        while grown:
            ready = {n for n in self._by_name if n not in started and started & set(self._parents(n))}
            # A parent that does not exist is a problem of its own.
            ready |= {
                n for n in self._by_name if n not in started and set(self._parents(n)) - self._by_name.keys()
            }
            started |= ready
            grown = bool(ready)
        told: set[str] = set()
        for name, resource in self._by_name.items():
            if name in started or name in told or not self._parents(name):
                continue
            path = [name]
            while (parent := self._parents(path[-1])[0]) not in path:
                path.append(parent)
            told |= {*path, *(n for n in self._by_name if n not in started and name in self.ancestors(n))}
            chain = " <- ".join([*path, parent])
            message = f"nothing ever starts {name}: {chain}"
            field = f"{resource.field}.parent"
            self._reading.report(
                resource.value_node("parent"), field, message, "one of them needs no parent, or seeds"
            )

    def _outputs(self) -> None:
        outputs = [output for output in self._root.get("outputs", ()) if isinstance(output, ParsedMap)]
        for output in outputs:
            self._check_resources(output, "resources")
            check_output(output, self._reading)
        check_shared_targets(outputs, self._reading)

    def _check_use(self, use: ExpressionUse) -> None:
        unimplemented = sorted(use.compiled.names & use.unimplemented)
        if unimplemented:
            self._reading.report(use.node, use.field, f"'{unimplemented[0]}' is {NOT_IMPLEMENTED}")
        owner = next((r for r in self._resources if use.field.startswith(f"{r.field}.")), None)
        if owner is None:
            self._seeds(use, self._all_seeds(self._by_name))
            return
        if "parent" in use.compiled.names and not owner.has("parent"):
            self._reading.report(
                use.node, use.field, "parent is used, but this resource has no parent", "add parent:"
            )
        if "incremental" in use.compiled.names - use.unimplemented:
            check_incremental_use(use, owner, self._reading)
        name = owner.get("name")
        if not isinstance(name, str):
            return
        ancestors = self.ancestors(name)
        self._seeds(use, self._all_seeds([name, *ancestors]))
        for path in sorted(use.compiled.paths):
            if path[0] != "resources" or len(path) < len(("resources", "NAME")):
                continue
            if self._check_resource(path[1], use.node, use.field) and path[1] not in ancestors:
                message = f"resources.{path[1]} is used, but {path[1]} is no parent of this resource"
                hint = f"parents: {', '.join(ancestors)}" if ancestors else "add parent:"
                self._reading.report(use.node, use.field, message, hint)

    def _all_seeds(self, names: Collection[str]) -> set[str] | None:
        """The members that seeds of these resources have; None if that cannot be told."""
        keys: set[str] = set()
        for owner in [self._by_name[name] for name in names if name in self._by_name]:
            # A child without seeds of its own is started by its parents, whose seeds are looked at too.
            source = owner if owner.has("seeds") else self._root
            seeds = source.get("seeds")
            if not source.has("seeds"):
                continue
            if seeds is None or seeds.names is None:
                return None
            keys |= seeds.names
        return keys

    def _seeds(self, use: ExpressionUse, known: set[str] | None) -> None:
        if known is None or "seed" not in use.compiled.names:
            return
        if not known:
            self._reading.report(use.node, use.field, "seed is used, but there are no seeds", "add seeds:")
            return
        for path in sorted(use.compiled.paths):
            if path[0] == "seed" and len(path) > 1 and path[1] not in known:
                near = did_you_mean(path[1], known)
                hint = f"did you mean {near}?" if near else f"seeds have {', '.join(sorted(known))}"
                self._reading.report(use.node, use.field, f"no seed has '{path[1]}'", hint)
