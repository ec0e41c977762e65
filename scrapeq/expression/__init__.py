"""The one expression grammar of the configuration (stub: being built)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Expression:
    source: str
    names: frozenset[str]

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        raise NotImplementedError


class Template:
    source: str
    names: frozenset[str]

    def render(self, scope: Mapping[str, Any]) -> Any:
        raise NotImplementedError
