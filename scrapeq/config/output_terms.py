"""Shapes of the `outputs` section: where items are written, and in which format."""

from __future__ import annotations

from typing import Any, get_args

from scrapeq import plan, plugins
from scrapeq.config import expression_scopes
from scrapeq.config.nodes import Node
from scrapeq.config.read_context import Filled, ReadContext
from scrapeq.config.records import Key, ListOf, MapOf, Record, TypedRecord
from scrapeq.config.secret_terms import DatabaseUrl, has_plaintext_secret
from scrapeq.config.shapes import (
    Choice,
    Duration,
    Json,
    Schema,
    Shape,
    Size,
    TemplateText,
    Text,
    reject_plaintext_secret,
)
from scrapeq.expression import Template


def outputs() -> ListOf:
    """Return the shape of `outputs`."""
    rotate = Key(Record({"size": Key(Size()), "every": Key(Duration())}))
    table = Key(TemplateText(expression_scopes.OUTPUT, path=True))
    output = TypedRecord(
        Choice(plan.OUTPUTS, group=plugins.SINKS),
        {
            "resources": Key(ListOf(Text(), single=True)),
            "write_disposition": Key(Choice(tuple(word for word in get_args(plan.WriteDisposition) if word))),
        },
        {
            "jsonl": {"path": _path("out/${resource}.jsonl"), "rotate": rotate},
            "csv": {"path": _path("out/${resource}.csv"), "rotate": rotate},
            "sqlite": {"path": _path("out/items.db"), "table": table},
            "postgres": {
                "url": Key(DatabaseUrl(), required=True, hint='url: "${env:DATABASE_URL}"'),
                "table": table,
            },
            "parquet": {"path": _path("out/${resource}/"), "rotate": rotate},
            "warc": {"path": _path("out/warc/"), "rotate": rotate},
            "stdout": {},
        },
        short=True,
        options=Options(),
    )
    return ListOf(output, single=True, expected='- {type: jsonl, path: "out/${resource}.jsonl"}')


def _path(example: str) -> Key:
    return Key(TemplateText(expression_scopes.OUTPUT, path=True), required=True, hint=f"path: {example}")


class Options(Shape):
    """The options of an entry point's output: any values; strings may contain `${resource}` and `${seed.x}`."""

    def read(self, node: Node, field: str, context: ReadContext) -> dict[str, Any]:
        values: dict[str, Any] = MapOf(_Option()).read(node, field, context)
        return values

    def schema(self) -> Schema:
        return {"type": "object"}


class _Option(Shape):
    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        if node.kind == "map":
            return MapOf(self).read(node, field, context)
        if node.kind == "list":
            return [self.read(item, f"{field}[{index}]", context) for index, item in enumerate(node.items)]
        if has_plaintext_secret(field.rpartition(".")[2], node):
            reject_plaintext_secret(node, field, context)
        value = Json(expression_scopes.OUTPUT).read(node, field, context)
        if isinstance(value, Template) and value.is_literal:
            return Filled(value.render({}), node.text)
        return value

    def schema(self) -> Schema:
        return {}
