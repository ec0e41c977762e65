"""Shapes of what a rate limit says beside its rates: a time zone, a weight, the line of a reserve."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from scrapeq.config import expression_scopes
from scrapeq.config.nodes import Node
from scrapeq.config.read_context import ReadContext
from scrapeq.config.shapes import Expr, Schema, Shape, Text
from scrapeq.expression import as_number, did_you_mean
from scrapeq.limits.partition import IMPLICIT
from scrapeq.task import WEIGHT_MAX

_LATER_S = 1e9  # two moments this far apart tell what of a line moves with the time


class LimitName(Text):
    """The name of a limit: not that of what no rule names."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        name = super().read(node, field, context)
        if name == IMPLICIT.name:
            message = f"'{name}' is the name of the limit of all requests that no rule matches"
            context.reject(node, field, message, "choose another name")
        return name


class Zone(Text):
    """The time zone of calendar windows: UTC or an IANA name."""

    def read(self, node: Node, field: str, context: ReadContext) -> str:
        name = super().read(node, field, context)
        if name == "UTC":  # known where no database of zones is
            return name
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # not known, or no name at all
            name = ""
        if not name:
            near = did_you_mean(node.text, available_timezones())
            hint = f"did you mean {near}?" if near else "UTC, or a name such as Europe/Berlin"
            context.reject(node, field, f"no time zone is called '{node.text}'", hint)
        return name


class WeightTerm(Shape):
    """What a request weighs: a number, or an expression over it and its answer."""

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
    """A priority, constant or so far from `now`: (the constant, whether now is added)."""

    def read(self, node: Node, field: str, context: ReadContext) -> tuple[float, bool]:
        compiled = Expr(expression_scopes.THRESHOLD).read(node, field, context)
        threshold, threshold_later = (
            as_number(compiled.evaluate({"now": now_s})) for now_s in (0.0, _LATER_S)
        )
        if threshold is None or threshold_later is None or threshold_later - threshold not in (0.0, _LATER_S):
            message = "must be a number or a time, or now with a duration added or taken off"
            context.reject(node, field, message, "min_priority: now - 1d")
        return float(threshold), threshold_later != threshold

    def schema(self) -> Schema:
        return {"type": ["string", "number"]}
