"""What the parts of an output say of each other, and two outputs of the same place."""

from __future__ import annotations

from collections.abc import Sequence

from scrapeq import plugins
from scrapeq.config.read_context import ReadContext
from scrapeq.config.records import ParsedMap

TABLE_OUTPUTS = ("sqlite", "postgres")
_APPEND_ONLY = ("jsonl", "csv", "parquet", "warc", "stdout")


def check_output(output: ParsedMap, context: ReadContext) -> None:
    """When a file is closed, and whether what was written can be replaced."""
    rotate = output.get("rotate")
    if isinstance(rotate, ParsedMap) and not (rotate.has("size") or rotate.has("every")):
        context.report(rotate.node, rotate.field, "has neither size nor every", "rotate: {size: 100MB}")
    kind = output.get("type")
    if missing := plugins.missing_extra(str(kind)):
        needed, _, remedy = missing.partition(": ")
        context.report(output.value_node("type"), f"{output.field}.type", needed, remedy)
    if output.get("write_disposition") == "merge" and kind in _APPEND_ONLY:
        message = f"{kind} only grows: what was written is never replaced"
        hint = f"append or append_changes, or an output with tables: {', '.join(TABLE_OUTPUTS)}"
        context.report(
            output.value_node("write_disposition"), f"{output.field}.write_disposition", message, hint
        )


def check_shared_targets(outputs: Sequence[ParsedMap], context: ReadContext) -> None:
    """Two outputs never write into one file, or into one table of one resource."""
    for index, output in enumerate(outputs):
        key, before = _target(output), outputs[:index]
        same = next((one for one in before if key and _target(one) == key and _collide(one, output)), None)
        if same is None:
            continue
        what = "table" if {same.get("type"), output.get("type")} <= set(TABLE_OUTPUTS) else "file"
        where = "path" if output.has("path") else "type"
        message = f"the same {what} as {same.field}"
        context.report(
            output.value_node(where), f"{output.field}.{where}", message, "give each output its own"
        )


def _target(output: ParsedMap) -> str:
    """What an output writes into, as it is written; empty where that cannot be told."""
    if output.get("type") == "stdout":
        return "stdout"
    path = output.get("path")
    return path.source if path is not None else str(output.get("url", ""))


def _collide(one: ParsedMap, other: ParsedMap) -> bool:
    """Whether two outputs of one place meet in it."""
    if not {one.get("type"), other.get("type")} <= set(TABLE_OUTPUTS):
        return True
    tables = [table.source if (table := output.get("table")) else "${resource}" for output in (one, other)]
    named = [set(output.get("resources", ())) for output in (one, other)]
    return tables[0] == tables[1] and (not all(named) or bool(named[0] & named[1]))
