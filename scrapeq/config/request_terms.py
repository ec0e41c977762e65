"""Shapes of `endpoint`: the request, how its response is decoded, paginator and incremental."""

from __future__ import annotations

import codecs
from datetime import UTC, datetime
from typing import Any

from scrapeq import plugins
from scrapeq.config import expression_scopes
from scrapeq.config.nodes import Node
from scrapeq.config.paths import Path
from scrapeq.config.read_context import Filled, ReadContext
from scrapeq.config.records import Key, ListOf, MapOf, Record, TypedRecord
from scrapeq.config.shapes import (
    Choice,
    Duration,
    Expr,
    Flag,
    Json,
    Number,
    Schema,
    Shape,
    TemplateText,
    Text,
    scalar,
)
from scrapeq.config.terms import ParamMap
from scrapeq.plan import PAGINATORS

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
DECODERS = ("auto", "json", "jsonl", "csv", "tsv", "xml", "text")
COMPRESSIONS = ("gzip", "zip", "bz2", "xz", "zstd")

_TEXT = Text()
_SAMPLE_TIME = datetime(2024, 12, 31, 23, 59, 58, tzinfo=UTC)
_BODY_PATH = Text(r"[^.\s]+(\.[^.\s]+)*", "a dotted path into the body, such as query.cursor")


def endpoint() -> Record:
    """Return the shape of `endpoint`: a map, or as a shorthand its path."""
    scope = expression_scopes.REQUEST
    return Record(
        {
            "path": Key(Address(path=True)),
            "url": Key(Address(path=True)),
            "method": Key(Choice(METHODS, fold=True)),
            "params": Key(ParamMap(scope)),
            "headers": Key(ParamMap(scope, headers=True)),
            "json": Key(Body(scope)),
            "data": Key(Body(scope, spelling=True)),
            "decoder": Key(_decoder()),
            "data_selector": Key(Path()),
            "key_as": Key(_TEXT),
            "columns": Key(Path()),
            "paginator": Key(paginator()),
            "incremental": Key(_incremental()),
        },
        shorthand="path",
    )


def _decoder() -> Record:
    return Record(
        {
            "type": Key(Choice(DECODERS, ("html",))),
            "delimiter": Key(Text(r"(?s:.)", "one character", 'delimiter: ";" (a tab is "\\t")')),
            "header": Key(Header()),
            "skip_lines": Key(Number(0)),
            "quoting": Key(Flag()),
            "files": Key(_TEXT),
            "encoding": Key(Encoding()),
            "compression": Key(Choice(COMPRESSIONS)),
        },
        shorthand="type",
    )


def _incremental() -> Record:
    return Record(
        {
            "cursor_path": Key(Path()),
            "initial_value": Key(InitialValue()),
            "lookback": Key(Duration(zero=True)),
            "step": Key(Duration()),
            "token_path": Key(Path()),
            "cursor_format": Key(TimeFormat()),
        }
    )


def paginator() -> TypedRecord:
    """Return the shape of `paginator`."""
    whole = Number(0)
    cursor_destination = _destination_keys("cursor")
    exclusive = {"exclusive": Key(Flag()), "keep_params": Key(ListOf(_TEXT, single=True))}
    return TypedRecord(
        Choice(PAGINATORS, group=plugins.PAGINATORS),
        {
            "stop_when": Key(Expr(expression_scopes.PAGE)),
            "max_pages": Key(Number()),
            "has_more_path": Key(Path()),
            "stop_after_empty_page": Key(Flag()),
            "max_empty_pages": Key(Number(1)),
            "priority": Key(Expr(expression_scopes.RECORD)),
            "fan_out": Key(Flag()),
        },
        {
            "json_link": {"next_url_path": Key(Path(), required=True, hint="next_url_path: links.next")},
            "header_link": {"links_next_key": Key(_TEXT), "link_header": Key(_TEXT)},
            "header_cursor": {
                "cursor_key": Key(_TEXT, required=True, hint="cursor_key: X-Next-Cursor"),
                **cursor_destination,
                **exclusive,
            },
            "cursor": {
                "cursor_path": Key(Path(), required=True, hint="cursor_path: meta.next_cursor"),
                **cursor_destination,
                **exclusive,
            },
            "offset": {
                "limit": Key(Number()),
                "offset": Key(whole),
                **_destination_keys("offset"),
                **_destination_keys("limit"),
                "total_path": Key(Path()),
                "maximum_offset": Key(whole),
            },
            "page_number": {
                "base_page": Key(whole),
                **_destination_keys("page"),
                "page_path": Key(Path()),
                "total_path": Key(Path()),
                "maximum_page": Key(whole),
            },
            "single_page": {},
            "auto": {},
        },
        short=True,
        options=MapOf(Json()),
    )


def _destination_keys(value: str) -> dict[str, Key]:
    """Return the keys that say where in the request a cursor, page or offset is sent."""
    return {
        f"{value}_param": Key(_TEXT),
        f"{value}_header": Key(_TEXT),
        f"{value}_body_path": Key(_BODY_PATH),
    }


class Address(TemplateText):
    """A path or a URL."""

    def __init__(self, *, path: bool) -> None:
        super().__init__(expression_scopes.REQUEST, path=path)


class Body(Json):
    """The body of a request."""


class Header(Shape):
    """The header of a CSV file: `none`, or the names of the columns of a file without one."""

    def __init__(self) -> None:
        self._names = ListOf(Text(), min_items=1, expected="[id, name]")

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        if node.kind == "list":
            return self._names.read(node, field, context)
        if node.kind == "scalar" and node.text in ("none", "false"):
            return "none"
        return context.reject(
            node, field, "must be none or a list of names", "header: none, or header: [id, name]"
        )

    def schema(self) -> Schema:
        return {"anyOf": [{"const": "none"}, self._names.schema()]}


class Encoding(Text):
    """The name of a character encoding."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        name = super().read(node, field, context)
        try:
            known = codecs.lookup(name)._is_text_encoding
        except (LookupError, ValueError):
            known = False
        if not known:
            context.reject(
                node, field, f"unknown encoding '{name}'", "for example utf-8, latin-1, cp1252, shift_jis"
            )
        return name


class TimeFormat(Text):
    """The form of a date or time, as in strptime: `%d/%m/%Y`."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        form = super().read(node, field, context)
        try:
            known = datetime.strptime(_SAMPLE_TIME.strftime(form), form).date() == _SAMPLE_TIME.date()
        except ValueError:
            known = False
        if not known:
            context.reject(
                node,
                field,
                f"'{form}' is not the form of a date with day, month and year",
                "'%d/%m/%Y %H:%M:%S'",
            )
        return form


class InitialValue(Shape):
    """The cursor of the first run: a number, a string (a date keeps its spelling), or a template: `${now - 30d}`."""

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        node = scalar(node, field, context, "a number, a date or a string")
        if "${" in node.text:
            result = TemplateText(expression_scopes.INITIAL_VALUE).read(node, field, context)
            if not result.is_literal:
                return result
            node = context.filled(node, field)
        if isinstance(node.value, bool):
            context.reject(
                node,
                field,
                f"'{node.text}' is not a valid initial value",
                "write a number, a date or a string",
            )
        if isinstance(node.value, str):
            return Filled(node.text, node.filled) if node.filled else node.text
        return node.value

    def schema(self) -> Schema:
        return {"type": ["string", "number"]}
