"""What the parts of an output say of each other, and two outputs of the same place."""

from __future__ import annotations

from collections.abc import Sequence

from scrapeq import plugins
from scrapeq.config.read_context import Reading
from scrapeq.config.records import Found

TABLES = ("sqlite", "postgres")
_GROWING = ("jsonl", "csv", "parquet", "warc", "stdout")


def check_output(output: Found, reading: Reading) -> None:
    """When a file is closed, and whether what was written can be replaced."""
    rotate = output.get("rotate")
    if isinstance(rotate, Found) and not (rotate.has("size") or rotate.has("every")):
        reading.note(rotate.node, rotate.field, "has neither size nor every", "rotate: {size: 100MB}")
    kind = output.get("type")
    if missing := plugins.missing_extra(str(kind)):
        needed, _, remedy = missing.partition(": ")
        reading.note(output.at("type"), f"{output.field}.type", needed, remedy)
    if output.get("write_disposition") == "merge" and kind in _GROWING:
        message = f"{kind} only grows: what was written is never replaced"
        hint = f"append or append_changes, or an output with tables: {', '.join(TABLES)}"
        reading.note(output.at("write_disposition"), f"{output.field}.write_disposition", message, hint)


def check_places(outputs: Sequence[Found], reading: Reading) -> None:
    """Two outputs never write into one file, or into one table of one resource."""
    for at, output in enumerate(outputs):
        key, before = _place(output), outputs[:at]
        same = next((one for one in before if key and _place(one) == key and _share(one, output)), None)
        if same is None:
            continue
        what = "table" if {same.get("type"), output.get("type")} <= set(TABLES) else "file"
        where = "path" if output.has("path") else "type"
        message = f"the same {what} as {same.field}"
        reading.note(output.at(where), f"{output.field}.{where}", message, "give each output its own")


def _place(output: Found) -> str:
    """What an output writes into, as it is written; empty where that cannot be told."""
    if output.get("type") == "stdout":
        return "stdout"
    path = output.get("path")
    return path.source if path is not None else str(output.get("url", ""))


def _share(one: Found, other: Found) -> bool:
    """Whether two outputs of one place meet in it."""
    if not {one.get("type"), other.get("type")} <= set(TABLES):
        return True
    tables = [table.source if (table := output.get("table")) else "${resource}" for output in (one, other)]
    named = [set(output.get("resources", ())) for output in (one, other)]
    return tables[0] == tables[1] and (not all(named) or bool(named[0] & named[1]))
