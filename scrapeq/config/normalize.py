"""
Normalizes a parsed file before it is validated: expands shorthands, applies flags and merges defaults.

Every node keeps its original position, so that messages refer to the file as the user wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scrapeq.config import reader
from scrapeq.config.language import resource_keys
from scrapeq.config.nodes import Entry, Node
from scrapeq.config.read_context import ReadContext
from scrapeq.config.records import ParsedMap, Record
from scrapeq.errors import ConfigError, Problem
from scrapeq.expression import as_text

# Alternative keys for the same thing: if a resource has one of a pair, the other is not taken from the defaults.
_ALTERNATIVE_KEYS = (("path", "url"), ("json", "data"))
ENVIRONMENT = {
    "SCRAPEQ_REDIS_URL": "redis.url",
    "SCRAPEQ_WORKERS": "run.workers",
    "SCRAPEQ_CONCURRENCY": "run.concurrency",
}
_SOURCES = {"endpoint", "parent", "links", "match"}  # keys that say where the records of a resource come from
MAX_INDEX = 100_000


def normalize(root: Node, context: ReadContext, overrides: Mapping[str, Any]) -> Node:
    """
    Expand shorthands, apply overrides, and merge `resource_defaults` into each resource.

    Args:
        root: The root node; it is changed.
        context: Receives the problems; its environment is read for the variables in `ENVIRONMENT`.
        overrides: Values by field path, such as `run.workers` or `resources.issues.selected`.

    Raises:
        ConfigError: The root is not a map.
    """
    if root.kind != "map":
        raise ConfigError(
            [Problem(root.file, root.line, root.col, "", f"must be a map, not a {root.kind}", "name: acme")]
        )
    _expand(root)
    for variable, field in ENVIRONMENT.items():
        if value := context.env.get(variable):
            _override(root, field, value, f"the environment variable {variable}", context)
    for field, value in overrides.items():
        _override(root, field, value, f"the flag {field}", context)
    _merge_defaults(root, context)
    return root


def _expand(root: Node) -> None:
    _expand_shorthand(root, "redis", "url")
    defaults = root.get("resource_defaults")
    if defaults and defaults.kind == "map":
        _expand_resource(defaults)
    resources = root.get("resources")
    if not resources or resources.kind != "list":
        return
    resources.items = [_from_name(item) for item in resources.items]
    for item in resources.items:
        if item.kind == "map":
            _add_endpoint(item, root)
            _expand_resource(item)


def _add_endpoint(resource: Node, root: Node) -> None:
    """Let a resource that names no source of its records request the URLs of its seeds, or the path of its name."""
    name, seeds = resource.entries.get("name"), resource.get("seeds") or root.get("seeds")
    if name is None or name.node.kind != "scalar" or name.node.is_null or _SOURCES & set(resource.entries):
        return
    has_urls = seeds is not None and (
        "urls" in seeds.entries or any("url" in seed.entries for seed in seeds.items)
    )
    endpoint = name.node.map() if has_urls else name.node.map(path=name.node)
    resource.entries["endpoint"] = _with_node(name, endpoint)


def _from_name(item: Node) -> Node:
    """Return the map of a resource that may be written as a string, which is its name and its path."""
    if item.kind != "scalar" or item.is_null:
        return item.with_entries(dict(item.entries))
    return item.map(name=item, endpoint=item.map(path=item))


def _expand_resource(resource: Node) -> None:
    _expand_shorthand(resource, "endpoint", "path")
    endpoint = resource.get("endpoint")
    if endpoint and endpoint.kind == "map":
        endpoint = endpoint.with_entries(dict(endpoint.entries))
        resource.entries["endpoint"] = _with_node(resource.entries["endpoint"], endpoint)
        _expand_shorthand(endpoint, "paginator", "type")


def _expand_shorthand(parent: Node, key: str, shorthand: str) -> None:
    entry = parent.entries.get(key)
    if entry and entry.node.kind == "scalar" and not entry.node.is_null:
        parent.entries[key] = _with_node(entry, entry.node.map(**{shorthand: entry.node}))


def _with_node(entry: Entry, node: Node) -> Entry:
    return Entry(entry.key, entry.line, entry.col, node)


def _merge_defaults(root: Node, context: ReadContext) -> None:
    defaults = root.get("resource_defaults")
    root.entries.pop("resource_defaults", None)
    resources = root.get("resources")
    items = resources.items if resources and resources.kind == "list" else []
    if defaults and not defaults.is_null:
        if defaults.kind != "map":
            context.report(
                defaults, "resource_defaults", f"must be a map, not a {defaults.kind}", "primary_key: id"
            )
            return
        _check_defaults(defaults, context)
    for item in items:
        if item.kind != "map":
            continue
        base = defaults.entries if defaults and defaults.kind == "map" else {}
        inherited = {
            key: entry for key, entry in base.items() if key in resource_keys() and resource_keys()[key].shape
        }
        if "endpoint" not in item.entries:
            inherited.pop("endpoint", None)  # a resource without an endpoint sends no request
        if "parent" in item.entries:
            inherited.pop("seeds", None)  # its parent starts it
        if ("parent" in item.entries and "seeds" not in item.entries) or "endpoint" not in item.entries:
            inherited.pop("schedule", None)
        item.entries = _merge(inherited, item.entries)


def _check_defaults(defaults: Node, context: ReadContext) -> None:
    """Report unknown and unimplemented keys of the defaults at their own position, once for all resources."""
    record = Record(resource_keys())
    for key, entry in defaults.entries.items():
        field = f"resource_defaults.{key}"
        known = record.keys.get(key)
        if known is None:
            record.unknown(entry, field, context, record.keys)
        elif known.shape is None:
            record.reject_unimplemented(entry, field, known, context)


def _merge(base: Mapping[str, Entry], own: Mapping[str, Entry]) -> dict[str, Entry]:
    """
    Merge the entries of a resource into those of the defaults.

    Maps merge, other values replace, and null removes a key. A map of another `type` replaces the whole map.
    """
    for one, other in _ALTERNATIVE_KEYS:
        if one in own or other in own:
            base = {key: entry for key, entry in base.items() if key not in (one, other) or key in own}
    merged = dict(base)
    for key, entry in own.items():
        default = base.get(key)
        if entry.node.is_null and (entry.node.text or default):
            merged.pop(key, None)
            continue
        if (
            default
            and default.node.kind == "map"
            and entry.node.kind == "map"
            and not _other_type(default.node, entry.node)
        ):
            inner = _merge(default.node.entries, entry.node.entries)
            merged[key] = _with_node(entry, entry.node.with_entries(inner))
        else:
            merged[key] = entry
    return merged


def _other_type(one: Node, other: Node) -> bool:
    first, second = one.get("type"), other.get("type")
    return bool(first and second and first.text != second.text)


def _override(root: Node, field: str, value: Any, source: str, context: ReadContext) -> None:
    """Set one value at a path such as `a.b[0].c`; `resources.NAME` refers to a resource by its name."""
    try:
        node = _node_of(value, source)
    except ConfigError as error:
        context.problems += error.problems
        return
    if field == "redis":
        node = node.map(url=node)
    steps = [step for step in field.replace("[", ".[").split(".") if step]
    if not steps or not all(step.strip("[]") for step in steps):
        context.report(node, field, "is not the path of a key", "--set run.workers=4")
        return
    parent: Node | None = root
    for step in steps[:-1]:
        parent = _child(parent, step, node) if parent else None
    if parent is None or not _replace_child(parent, steps[-1], node):
        context.report(node, field, "this path does not exist in the file")


def _child(parent: Node, step: str, like: Node) -> Node | None:
    if parent.kind == "list":
        return _element(parent.items, step)
    if parent.kind != "map":
        return None
    entry = parent.entries.get(step)
    if entry is None or entry.node.is_null:
        result = Node("map", like.file, 0, 0)
        parent.entries[step] = Entry(step, 0, 0, result)
        return result
    # The node may be an alias that is used elsewhere as well, so a copy is changed.
    copy = entry.node.with_entries(dict(entry.node.entries))
    copy.items = list(copy.items)
    parent.entries[step] = _with_node(entry, copy)
    return copy


def _element(items: list[Node], step: str) -> Node | None:
    index = _index(step)
    if index is not None:
        return items[index] if index < len(items) else None
    return next((item for item in items if (name := item.get("name")) and name.text == step), None)


def _replace_child(parent: Node, step: str, node: Node) -> bool:
    if parent.kind == "map":
        if step == "endpoint" and node.kind == "scalar":
            node = node.map(path=node)
        if step == "paginator" and node.kind == "scalar":
            node = node.map(type=node)
        parent.entries[step] = Entry(step, 0, 0, node)
        return True
    index = _index(step)
    if parent.kind == "list" and index is not None and index < len(parent.items):
        parent.items[index] = node
        return True
    return False


def _index(step: str) -> int | None:
    """Return the index that a step such as `[0]` or `0` of a path names, or None; MAX_INDEX bounds its length."""
    digits = step.strip("[]")
    return int(digits) if digits.isdigit() and len(digits) < len(str(MAX_INDEX)) else None


def _node_of(value: Any, source: str) -> Node:
    """Return the node of a Python value; a string, such as the value of a flag, is parsed as YAML."""
    if isinstance(value, str):
        try:
            node = reader.read(value, source)
        except ConfigError:
            node = Node("scalar", source, 0, 0, value, value)
        if (node.kind == "map" and not node.entries) or (
            node.kind == "scalar" and node.plain and isinstance(node.value, str)
        ):
            node = Node("scalar", source, 0, 0, value, value)
    elif isinstance(value, Mapping):
        entries = {str(key): Entry(str(key), 0, 0, _node_of(inner, source)) for key, inner in value.items()}
        node = Node("map", source, 0, 0, entries=entries)
    elif isinstance(value, Iterable):
        node = Node("list", source, 0, 0, items=[_node_of(inner, source) for inner in value])
    else:
        text = as_text(value)
        node = Node("scalar", source, 0, 0, value, text or "", plain=True)
    for inner in node.walk():
        inner.line = inner.col = 0
    return node


def resources_of(root: ParsedMap) -> list[ParsedMap]:
    """Return the resources that could be parsed, in order."""
    return [found for found in root.get("resources", ()) if isinstance(found, ParsedMap)]
