"""Checks of the keys of an output against each other, and of outputs that write to the same target."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scrapeq import plugins
from scrapeq.config.read_context import ReadContext
from scrapeq.config.records import ParsedMap

TABLE_OUTPUTS = ("sqlite", "postgres")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_APPEND_ONLY = ("jsonl", "csv", "parquet", "warc", "stdout")


def check_output(output: ParsedMap, context: ReadContext) -> None:
    """Check that `rotate` has a condition, the needed extra is installed, and the type can merge records."""
    rotate = output.get("rotate")
    if isinstance(rotate, ParsedMap) and not (rotate.has("size") or rotate.has("every")):
        context.report(rotate.node, rotate.field, "has neither size nor every", "rotate: {size: 100MB}")
    kind = output.get("type")
    path = output.get("path")
    if path is not None and (scheme := _SCHEME.match(path.source)):
        context.report(
            output.value_node("path"),
            f"{output.field}.path",
            f"{scheme[1]}:// is not supported: {kind} output writes to a folder of this machine",
            "path: out/${resource}." + str(kind),
        )
    if missing := plugins.missing_extra(str(kind)):
        needed, _, remedy = missing.partition(": ")
        context.report(output.value_node("type"), f"{output.field}.type", needed, remedy)
    if output.get("write_disposition") == "merge" and kind in _APPEND_ONLY:
        message = f"{kind} output is append-only, so it cannot replace records"
        hint = f"write append or append_changes, or choose a type with tables: {', '.join(TABLE_OUTPUTS)}"
        context.report(
            output.value_node("write_disposition"), f"{output.field}.write_disposition", message, hint
        )


def check_shared_targets(outputs: Sequence[ParsedMap], context: ReadContext) -> None:
    """Check that two outputs do not write to the same file, or to the same table for the same resource."""
    for index, output in enumerate(outputs):
        if not _target(output):
            continue
        rival = next((earlier for earlier in outputs[:index] if _collide(earlier, output)), None)
        if rival is None:
            continue
        target = "table" if _are_tables(rival, output) else "file"
        key = "path" if output.has("path") else "type"
        message = f"writes to the same {target} as {rival.field}"
        hint = f"give each output its own {target}"
        context.report(output.value_node(key), f"{output.field}.{key}", message, hint)


def _target(output: ParsedMap) -> str:
    """Return the file or database of an output as written in the configuration; empty if it is unknown."""
    if output.get("type") == "stdout":
        return "stdout"
    path = output.get("path")
    return path.source if path is not None else str(output.get("url", ""))


def _are_tables(first: ParsedMap, second: ParsedMap) -> bool:
    return {first.get("type"), second.get("type")} <= set(TABLE_OUTPUTS)


def _collide(first: ParsedMap, second: ParsedMap) -> bool:
    """Return whether two outputs write to the same file, or to the same table for the same resource."""
    if _target(first) != _target(second):
        return False
    if not _are_tables(first, second):
        return True
    tables = [table.source if (table := output.get("table")) else "${resource}" for output in (first, second)]
    resources = [set(output.get("resources", ())) for output in (first, second)]
    return tables[0] == tables[1] and (not all(resources) or bool(resources[0] & resources[1]))
