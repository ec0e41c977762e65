"""Shapes of the keys of a resource: seeds, fields, schedules, and the names of functions."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, get_args

from scrapeq import plan
from scrapeq.config import expression_scopes
from scrapeq.config.client_terms import WholeUrl
from scrapeq.config.limit_terms import Zone
from scrapeq.config.nodes import Node
from scrapeq.config.paths import Path
from scrapeq.config.read_context import NOT_IMPLEMENTED, ReadContext
from scrapeq.config.records import Key, ListOf, MapOf, Record, unimplemented
from scrapeq.config.secret_terms import report_stored_pairs, report_stored_secrets
from scrapeq.config.shapes import Choice, Duration, Expr, Flag, Json, Schema, Shape, Text, last_key

SEED_FILES = (".csv", ".jsonl", ".ndjson", ".txt")
MAX_REGEX = 500
MAX_HEADER = 1 << 20  # characters of the first line of a file of seeds
_CSS = re.compile(r"\w::(text|attr)")
_FUNCTION = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"


@dataclass(frozen=True, slots=True)
class SeedSource:
    """Seeds: rows, or a file of rows; `names` are the keys that the rows have, None if unknown until the run."""

    rows: tuple[Mapping[str, Any], ...] = ()
    file: str = ""
    priority: Any = None
    names: frozenset[str] | None = None


class Seeds(Shape):
    """Seeds: a list of maps, a file of rows, or URLs."""

    def __init__(self) -> None:
        self._list = ListOf(MapOf(Json(), "a map: {name: value}"), min_items=1, expected="[{name: value}]")
        self._map = Record(
            {
                "file": Key(SeedFile()),
                "urls": Key(ListOf(SeedUrl(), single=True, min_items=1, expected="[https://acme.test/a]")),
                "sitemap": unimplemented("write the addresses: {urls: [https://acme.test/a]}"),
                "priority": Key(Expr(expression_scopes.SEED)),
            }
        )

    def read(self, node: Node, field: str, context: ReadContext) -> SeedSource:
        if node.kind != "map":
            rows = self._list.read(node, field, context)
            for index, item in enumerate(node.items):
                members = {name: entry.node for name, entry in item.entries.items()}
                report_stored_secrets(members, f"{field}[{index}]", context)
            return SeedSource(rows, names=frozenset(name for row in rows for name in row))
        if not node.entries.keys() & self._map.keys.keys() - {"priority"}:
            hint = f"{last_key(field)}: [{{name: value}}], or {{file: seeds.csv}}, or {{urls: [https://acme.test/a]}}"
            context.reject(node, field, "must be a list, not a map", hint)
        found = self._map.read(node, field, context)
        if found.has("file") and found.has("urls"):
            context.report(
                found.value_node("urls"),
                f"{field}.urls",
                "file and urls are mutually exclusive",
                "keep one of them",
            )
        priority = found.get("priority")
        if found.has("file"):
            path, names = found.get("file", ("", None))
            return SeedSource(file=path, priority=priority, names=names)
        rows = tuple({"url": url} for url in found.get("urls", ()))
        return SeedSource(rows, priority=priority, names=frozenset({"url"}) if rows else None)

    def schema(self) -> Schema:
        return {"anyOf": [self._list.schema(), self._map.schema()]}


class SeedUrl(WholeUrl):
    """A URL as a seed. A credential in it is reported, because it would be stored with the task."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        report_stored_pairs(node, field, context)
        return super().read(node, field, context)


class SeedFile(Shape):
    """A file of seeds; read as (absolute path, names of the columns or None if they are unknown until the run)."""

    def read(self, node: Node, field: str, context: ReadContext) -> tuple[str, frozenset[str] | None]:
        written = Text().read(node, field, context)
        path = (context.folder / written).absolute()
        if path.suffix.lower() not in SEED_FILES:
            context.reject(
                node,
                field,
                f"'{written}' is not a supported kind of seed file",
                f"one of {', '.join(SEED_FILES)}",
            )
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                first = file.readline(MAX_HEADER)
        except FileNotFoundError:
            if context.inputs:
                context.reject(
                    node, field, f"the file {written} does not exist in {context.folder.absolute()}"
                )
            return str(path), None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            context.reject(node, field, f"the file {written} cannot be read: {reason}")
        if path.suffix.lower() != ".csv":
            return str(path), frozenset({"url"}) if path.suffix.lower() == ".txt" else None
        try:
            columns = [name.strip() for name in next(csv.reader([first]), [])]
        except csv.Error:
            columns = []
        if not columns or not all(columns) or len(set(columns)) < len(columns):
            message = f"the first line of {written} must name the columns, each once"
            context.reject(node, field, message, "owner,repo")
        return str(path), frozenset(columns)

    def schema(self) -> Schema:
        return {"type": "string"}


class Field(Shape):
    """One field of an item: a path into the record, or a map with a path or value and its processing."""

    def __init__(self) -> None:
        later = ("css", "xpath", "jsonld", "meta")
        self._map = Record(
            {
                "path": Key(Path()),
                "value": Key(Expr(expression_scopes.RECORD)),
                "regex": Key(Regex()),
                "all": Key(Flag()),
                "type": Key(Choice(tuple(kind for kind in get_args(plan.FieldType) if kind))),
                "required": Key(Flag()),
                "default": Key(_Default(self)),
                **dict.fromkeys(later, unimplemented("write a path into a JSON record")),
            }
        )

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        if node.kind == "scalar" and _CSS.search(node.text):
            context.reject(
                node, field, f"a CSS path is {NOT_IMPLEMENTED}", "write a JMESPath into a JSON record"
            )
        if node.kind != "map":
            return Path().read(node, field, context)
        found = self._map.read(node, field, context)
        if found.has("path") == found.has("value") and not context.has_unimplemented(field):
            context.reject(node, field, "needs either path or value", "{value: EXPR}, or the path alone")
        if len(found.values) == 1 and len(node.entries) == 1:
            return found.get("value", found.get("path"))
        return plan.Field(**found.values)

    def schema(self) -> Schema:
        return {"anyOf": [Path().schema(), self._map.schema()]}


class _Default(Shape):
    """The replacement for null: a plain value, or a map like that of a field."""

    def __init__(self, field: Field) -> None:
        self._field = field

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        if node.kind != "map":
            return Json().read(node, field, context)
        result = self._field.read(node, field, context)
        if isinstance(result, plan.Field):
            return result
        return plan.Field(path=result) if isinstance(result, str) else plan.Field(value=result)

    def schema(self) -> Schema:
        return {}


class Regex(Text):
    """A regular expression."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        pattern = super().read(node, field, context)
        if len(pattern) > MAX_REGEX:
            context.reject(node, field, f"the pattern is longer than {MAX_REGEX} characters")
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            context.reject(node, field, f"not a valid regular expression: {error}")
        return pattern


def schedule() -> Record:
    """Return the shape of `schedule`."""
    keys = {"every": Key(Duration()), "cron": Key(Cron()), "timezone": Key(Zone())}
    return Record(keys, example="{every: 15m}")


class Cron(Text):
    """A cron expression of five fields."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        from cronsim import CronSim, CronSimError  # imported here because few files have a schedule

        line = super().read(node, field, context)
        try:
            next(CronSim(line, datetime.now(UTC)))
        except CronSimError as error:
            self._reject(node, field, context, str(error))
        except StopIteration:
            self._reject(node, field, context, "this day does not exist")
        return line

    @staticmethod
    def _reject(node: Node, field: str, context: ReadContext, reason: str) -> NoReturn:
        hint = "minute hour day-of-month month day-of-week, for example 30 16 * * mon-fri"
        message = f"'{node.text}' is not a cron expression: {reason[:1].lower()}{reason[1:]}"
        context.reject(node, field, message, hint)


class FunctionName(Text):
    """A function of a Python package; the run imports it when it starts."""

    def __init__(self) -> None:
        super().__init__(_FUNCTION, "a function, package.module:name", "for example acme.pages:read_issues")
