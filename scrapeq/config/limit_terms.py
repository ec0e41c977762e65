"""Shapes in a rate limit: its name, rates, time zone, weights, and the priority threshold of its reserve."""

from __future__ import annotations

import re
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from scrapeq.config import expression_scopes
from scrapeq.config.nodes import Node
from scrapeq.config.read_context import ReadContext
from scrapeq.config.records import Key, ParsedMap, Record
from scrapeq.config.shapes import Duration, Expr, Number, Schema, Shape, Text
from scrapeq.config.units import normalized_duration
from scrapeq.expression import as_number, did_you_mean
from scrapeq.limits.partition import IMPLICIT
from scrapeq.task import WEIGHT_MAX

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/|\bper\b)\s*(\S.*)", re.ASCII)  # 60/1m
_ONE_UNIT = re.compile(r"[A-Za-z]+", re.ASCII)  # 60/m, 60/minute
_RATE_EXAMPLE = "{limit: 30, interval: 1m}"
_LATER_S = 1e9  # a second point in time, to see whether a threshold moves with `now`


class LimitName(Text):
    """The name of a limit; the name of the implicit limit is reserved."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        name = super().read(node, field, context)
        if name == IMPLICIT.name:
            message = f"'{name}' is reserved for the limit of all requests that no rule matches"
            context.reject(node, field, message, "choose another name")
        return name


class Zone(Text):
    """The time zone of calendar windows or cron expressions: UTC or an IANA name."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        name = super().read(node, field, context)
        if name == "UTC":  # valid even without a time zone database
            return name
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # unknown, or not a valid zone name
            name = ""
        if not name:
            near = did_you_mean(node.text, available_timezones())
            hint = f"did you mean {near}?" if near else "UTC, or a name such as Europe/Berlin"
            context.reject(node, field, f"unknown time zone '{node.text}'", hint)
        return name


class RateTerm(Shape):
    """A rate: a map of limit and interval, or a text such as `60/1m`."""

    def __init__(self) -> None:
        self._map = Record(
            {
                "limit": Key(Number(0, exclusive=True, fractions=True), required=True, hint=_RATE_EXAMPLE),
                "interval": Key(Duration(), required=True, hint=_RATE_EXAMPLE),
                "burst": Key(Number()),
                "aligned": Key(Zone()),
            },
            example=f"{_RATE_EXAMPLE}, or 30/1m",
        )

    def read(self, node: Node, field: str, context: ReadContext) -> ParsedMap:
        if node.kind == "scalar" and not node.is_null:
            node = self._from_text(node, field, context)
        return self._map.read(node, field, context)

    @staticmethod
    def _from_text(node: Node, field: str, context: ReadContext) -> Node:
        found = _RATE.fullmatch(node.text.strip())
        if found is None:
            message = f"'{node.text}' is not a rate"
            context.reject(node, field, message, "requests per interval: 30/1m, or {limit: 30, interval: 1m}")
        number, interval = found.groups()
        if _ONE_UNIT.fullmatch(interval):
            interval = normalized_duration(f"1 {interval}") or f"1{interval}"
        value = float(number) if "." in number else int(number)
        limit = Node("scalar", node.file, node.line, node.col, value, number, plain=True)
        window = Node("scalar", node.file, node.line, node.col, interval, interval, plain=True)
        return node.map(limit=limit, interval=window)

    def schema(self) -> Schema:
        text = {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(/|per\b)"}
        return {"anyOf": [text, self._map.schema()]}


class WeightTerm(Shape):
    """The cost of a request: a number, or an expression over the request and its response."""

    def read(self, node: Node, field: str, context: ReadContext) -> Any:
        value = node.value if node.kind == "scalar" else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not 0 <= value <= WEIGHT_MAX:
                bound = "at least 0" if value < 0 else f"at most {WEIGHT_MAX:,.0f}"
                size = "small" if value < 0 else "large"
                context.reject(node, field, f"{node.text} is too {size}; it must be {bound}")
            return float(value)
        return Expr(expression_scopes.RESPONSE).read(node, field, context)

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "number", "minimum": 0, "maximum": WEIGHT_MAX}, {"type": "string"}]}


class PriorityThreshold(Shape):
    """A priority threshold, constant or relative to `now`; read as (constant, whether `now` is added)."""

    def read(self, node: Node, field: str, context: ReadContext) -> tuple[float, bool]:
        compiled = Expr(expression_scopes.THRESHOLD).read(node, field, context)
        threshold, threshold_later = (
            as_number(compiled.evaluate({"now": now_s})) for now_s in (0.0, _LATER_S)
        )
        if threshold is None or threshold_later is None or threshold_later - threshold not in (0.0, _LATER_S):
            message = "must be a number, a time, or now plus or minus a duration"
            context.reject(node, field, message, "min_priority: now - 1d")
        return float(threshold), threshold_later != threshold

    def schema(self) -> Schema:
        return {"type": ["string", "number"]}
