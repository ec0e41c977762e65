"""Checks across the whole file: that referenced names exist, are used where they apply, and that every cycle starts."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from scrapeq.config.nodes import Node
from scrapeq.config.normalize import resources_of
from scrapeq.config.output_checks import check_output, check_shared_targets
from scrapeq.config.read_context import NOT_IMPLEMENTED, ExpressionUse, ReadContext
from scrapeq.config.records import ParsedMap
from scrapeq.config.request_checks import (
    check_auth,
    check_exclusive,
    check_incremental,
    check_incremental_use,
    check_paginator,
    check_schedule,
)
from scrapeq.expression import did_you_mean

DAY_S = 86_400
SCOPES = ("task", "limit", "host", "token", "all")


class CrossCheck:
    """The cross-checks of one file. They report problems to the context and raise nothing."""

    def __init__(self, root: ParsedMap, context: ReadContext) -> None:
        self._root = root
        self._context = context
        self._resources = resources_of(root)
        self._by_name: dict[str, ParsedMap] = {}
        for found in self._resources:
            if isinstance(found.get("name"), str):
                self._by_name.setdefault(found.get("name"), found)

    def run(self) -> None:
        """Run all checks."""
        self._check_client_auth()
        self._check_unique_names(self._resources, "resource")
        limits = [limit for limit in self._root.get("rate_limits", ()) if isinstance(limit, ParsedMap)]
        self._check_unique_names(limits, "limit")
        self._check_limits(limits)
        self._check_actions(self._root, [limit.get("name") for limit in limits])
        for resource in self._resources:
            self._check_actions(resource, [limit.get("name") for limit in limits])
            self._check_relations(resource)
        self._check_cycles()
        self._check_outputs()
        for use in self._context.uses:
            self._check_use(use)

    def _check_client_auth(self) -> None:
        client = self._root.get("client")
        auth = client.get("auth") if isinstance(client, ParsedMap) else None
        if isinstance(auth, ParsedMap):
            check_auth(auth, client.has("base_url"), self._context)

    def _check_unique_names(self, named: Iterable[ParsedMap], kind: str) -> None:
        first_lines: dict[str, int] = {}
        for item in named:
            name = item.get("name")
            if not isinstance(name, str):
                continue
            if name in first_lines:
                message = f"two {kind}s are called '{name}'; the first is on line {first_lines[name]}"
                self._context.report(item.value_node("name"), f"{item.field}.name", message)
            first_lines.setdefault(name, item.value_node("name").line)

    def _check_resource_exists(self, name: str, node: Node, field: str, prefix: str = "") -> bool:
        if name in self._by_name:
            return True
        near = did_you_mean(name, self._by_name)
        known = ", ".join(self._by_name)
        hint = f"did you mean {near}?" if near else (f"resources: {known}" if known else "")
        self._context.report(node, field, f"{prefix}no resource is called '{name}'", hint)
        return False

    def _check_resources_exist(self, found: ParsedMap, key: str, prefix: str = "") -> None:
        node = found.value_node(key)
        for index, name in enumerate(found.get(key, ())):
            is_list = node.kind == "list"
            item = node.items[index] if is_list and index < len(node.items) else node
            field = f"{found.field}.{key}" + (f"[{index}]" if is_list else "")
            self._check_resource_exists(str(name), item, field, prefix)

    def _check_limits(self, limits: list[ParsedMap]) -> None:
        for limit in limits:
            match = limit.get("match")
            if isinstance(match, ParsedMap):
                self._check_resources_exist(match, "resource", "can never match: ")
            for weight in limit.get("weights", ()):
                if isinstance(weight, ParsedMap) and isinstance(weight.get("match"), ParsedMap):
                    self._check_resources_exist(weight.get("match"), "resource", "can never match: ")
            for rate in limit.get("rates", ()):
                if isinstance(rate, ParsedMap):
                    self._check_aligned_rate(rate)
            # For a limit that is observed, the responses state the rates.
            is_observed = limit.has("observe") and limit.get("observe") != "none"
            if not is_observed and not limit.has("rates") and not limit.has("max_concurrency"):
                message = "limits nothing: it has neither rates nor max_concurrency"
                self._context.report(limit.node, limit.field, message, "rates: [{limit: 30, interval: 1m}]")

    def _check_aligned_rate(self, rate: ParsedMap) -> None:
        interval_s = rate.get("interval")
        if not rate.has("aligned"):
            return
        if isinstance(interval_s, int | float) and DAY_S % interval_s and interval_s % DAY_S:
            message = "a calendar window must divide a day evenly, or be whole days"
            self._context.report(
                rate.value_node("interval"), f"{rate.field}.interval", message, "1m, 1h, 6h, 1d, 7d"
            )
        if rate.has("burst"):
            message = "burst and aligned are mutually exclusive: a calendar window is not a token bucket"
            self._context.report(rate.value_node("burst"), f"{rate.field}.burst", message, "keep one of them")

    def _check_actions(self, owner: ParsedMap, limits: list[str]) -> None:
        for action in owner.get("response_actions", ()):
            if not isinstance(action, ParsedMap):
                continue
            match = action.get("match")
            if isinstance(match, ParsedMap):
                self._check_resources_exist(match, "resource", "can never match: ")
            scope = action.get("scope")
            if isinstance(scope, str) and scope not in (*SCOPES, *limits):
                near = did_you_mean(scope, [*SCOPES, *[name for name in limits if name]])
                one_of = f"one of {', '.join(SCOPES)}, or a limit's name"
                hint = f"did you mean {near}? {one_of}" if near else one_of
                self._context.report(
                    action.value_node("scope"), f"{action.field}.scope", f"unknown scope '{scope}'", hint
                )

    def _check_relations(self, resource: ParsedMap) -> None:
        for parent in resource.get("parent", ()):
            if isinstance(parent, ParsedMap) and isinstance(parent.get("resource"), str):
                self._check_resource_exists(
                    parent.get("resource"), parent.value_node("resource"), f"{parent.field}.resource"
                )
        if resource.has("include_from_parent") and not resource.has("parent"):
            field = f"{resource.field}.include_from_parent"
            self._context.report(
                resource.value_node("include_from_parent"),
                field,
                "include_from_parent needs a parent",
                "add parent:",
            )
        self._check_key_scope(resource)
        if isinstance(resource.get("schedule"), ParsedMap):
            check_schedule(resource.get("schedule"), resource, self._context)
        endpoint = resource.get("endpoint")
        if isinstance(endpoint, ParsedMap):
            self._check_endpoint(resource, endpoint)

    def _check_key_scope(self, resource: ParsedMap) -> None:
        """Check that the seed or the parent that a part of the primary key names exists."""
        name, field = str(resource.get("name", "")), f"{resource.field}.primary_key"
        node = resource.value_node("primary_key")
        seeds = self._seed_keys([name, *self._ancestors(name)])
        for part in resource.get("primary_key", ()):
            scope, _, key = part.partition(".")
            if scope == "parent" and not resource.has("parent"):
                self._context.report(
                    node, field, f"{part} is used, but this resource has no parent", "add parent:"
                )
            if scope == "seed" and key and seeds is not None and key not in seeds:
                known = f"seeds have {', '.join(sorted(seeds))}" if seeds else "add seeds:"
                self._context.report(node, field, f"{part} is used, but the seeds have no {key}", known)

    def _check_endpoint(self, resource: ParsedMap, endpoint: ParsedMap) -> None:
        check_exclusive(endpoint, ("path", "url"), self._context)
        if not (endpoint.has("path") or endpoint.has("url") or self._may_have_url(resource)):
            hint = f"path: {resource.get('name', '')}".rstrip()
            if resource.has("parent") and endpoint.has("data_selector"):
                # The selector probably means a list in the parent's response or records.
                hint += ", or for a list in the parent's records, parent: {resource: …, each: …} without an endpoint"
            self._context.report(endpoint.node, endpoint.field, "has neither path nor url", hint)
        check_exclusive(endpoint, ("json", "data"), self._context)
        paginator, incremental = endpoint.get("paginator"), endpoint.get("incremental")
        if isinstance(paginator, ParsedMap):
            check_paginator(paginator, endpoint, self._context)
        if isinstance(incremental, ParsedMap):
            check_incremental(incremental, self._context)
        path = endpoint.get("path")
        if path is None:
            return
        if path.source.startswith(("http://", "https://")):
            field = f"{endpoint.field}.path"
            self._context.report(
                endpoint.value_node("path"),
                field,
                "a path is joined to base_url",
                "write url: for a full URL",
            )
        elif not self._root.node.get("client") or not self._root.node.entries["client"].node.get("base_url"):
            field = f"{endpoint.field}.path"
            hint = "client: {base_url: https://api.acme.test/v1}, or url: instead of path:"
            self._context.report(endpoint.value_node("path"), field, "a path needs client.base_url", hint)

    def _may_have_url(self, resource: ParsedMap) -> bool:
        """Whether a URL may come from the seeds, or from a key that is not implemented."""
        seeds = self._seed_keys([resource.get("name", "")])
        return seeds is None or "url" in seeds or self._context.has_unimplemented(f"{resource.field}.")

    def _parents(self, name: str) -> list[str]:
        resource = self._by_name.get(name)
        if resource is None:
            return []
        found = [p.get("resource") for p in resource.get("parent", ()) if isinstance(p, ParsedMap)]
        return [parent for parent in found if isinstance(parent, str)]

    def _ancestors(self, name: str) -> list[str]:
        """Return every resource that leads to this one, the nearest first."""
        found: list[str] = []
        waiting = self._parents(name)
        while waiting:
            parent = waiting.pop(0)
            if parent not in found:
                found.append(parent)
                waiting += self._parents(parent)
        return found

    def _check_cycles(self) -> None:
        """Report each cycle of resources that neither a root resource nor seeds lead into."""
        started = {n for n, r in self._by_name.items() if not self._parents(n) or r.has("seeds")}
        has_grown = True
        while has_grown:
            ready = {n for n in self._by_name if n not in started and started & set(self._parents(n))}
            # A parent that does not exist is reported elsewhere.
            ready |= {
                n for n in self._by_name if n not in started and set(self._parents(n)) - self._by_name.keys()
            }
            started |= ready
            has_grown = bool(ready)
        reported: set[str] = set()
        for name, resource in self._by_name.items():
            if name in started or name in reported or not self._parents(name):
                continue
            path = [name]
            while (parent := self._parents(path[-1])[0]) not in path:
                path.append(parent)
            reported |= {
                *path,
                *(n for n in self._by_name if n not in started and name in self._ancestors(n)),
            }
            chain = " <- ".join([*path, parent])
            message = f"nothing ever starts {name}: {chain}"
            field = f"{resource.field}.parent"
            self._context.report(
                resource.value_node("parent"),
                field,
                message,
                "remove the parent of one of them, or give it seeds",
            )

    def _check_outputs(self) -> None:
        outputs = [output for output in self._root.get("outputs", ()) if isinstance(output, ParsedMap)]
        for output in outputs:
            self._check_resources_exist(output, "resources")
            check_output(output, self._context)
        check_shared_targets(outputs, self._context)

    def _check_use(self, use: ExpressionUse) -> None:
        unimplemented = sorted(use.compiled.names & use.unimplemented)
        if unimplemented:
            self._context.report(use.node, use.field, f"'{unimplemented[0]}' is {NOT_IMPLEMENTED}")
        owner = next((r for r in self._resources if use.field.startswith(f"{r.field}.")), None)
        if owner is None:
            self._check_seed_keys(use, self._seed_keys(self._by_name))
            return
        if "parent" in use.compiled.names and not owner.has("parent"):
            self._context.report(
                use.node, use.field, "parent is used, but this resource has no parent", "add parent:"
            )
        if "incremental" in use.compiled.names - use.unimplemented:
            check_incremental_use(use, owner, self._context)
        name = owner.get("name")
        if not isinstance(name, str):
            return
        ancestors = self._ancestors(name)
        self._check_seed_keys(use, self._seed_keys([name, *ancestors]))
        for path in sorted(use.compiled.paths):
            if path[0] != "resources" or len(path) < len(("resources", "NAME")):
                continue
            if self._check_resource_exists(path[1], use.node, use.field) and path[1] not in ancestors:
                message = f"resources.{path[1]} is used, but {path[1]} is not a parent of this resource"
                hint = f"parents: {', '.join(ancestors)}" if ancestors else "add parent:"
                self._context.report(use.node, use.field, message, hint)

    def _seed_keys(self, names: Collection[str]) -> set[str] | None:
        """Return the keys of the seeds of these resources; None if they are unknown until the run."""
        keys: set[str] = set()
        for owner in [self._by_name[name] for name in names if name in self._by_name]:
            # Parents start a child without its own seeds; the callers pass the parents as well.
            source = owner if owner.has("seeds") else self._root
            seeds = source.get("seeds")
            if not source.has("seeds"):
                continue
            if seeds is None or seeds.names is None:
                return None
            keys |= seeds.names
        return keys

    def _check_seed_keys(self, use: ExpressionUse, known: set[str] | None) -> None:
        if known is None or "seed" not in use.compiled.names:
            return
        if not known:
            self._context.report(use.node, use.field, "seed is used, but there are no seeds", "add seeds:")
            return
        for path in sorted(use.compiled.paths):
            if path[0] == "seed" and len(path) > 1 and path[1] not in known:
                near = did_you_mean(path[1], known)
                hint = f"did you mean {near}?" if near else f"keys of the seeds: {', '.join(sorted(known))}"
                self._context.report(use.node, use.field, f"no seed has the key '{path[1]}'", hint)
