"""Write values as YAML that the configuration reader reads back unchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from scrapeq.config.nodes import resolve

_NOT_IN_NAME = re.compile(r"[^a-z0-9_-]+")
_NAME_LENGTH = 64
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*(?: [A-Za-z0-9_./@+-]+)*|\d+")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


def scalar(value: Any) -> str:
    """Return a value on one line: plain if YAML reads it back unchanged, else in double quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and resolve(text) == text:
        return text
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def block(value: Any, indent: int = 0) -> Iterator[str]:
    """Yield the lines of a map or list in block style."""
    pad = " " * indent
    if isinstance(value, Mapping):
        for name, member in value.items():
            if isinstance(member, Mapping | list) and member:
                yield f"{pad}{scalar(str(name))}:"
                yield from block(member, indent + 2)
            else:
                yield f"{pad}{scalar(str(name))}: {_leaf(member)}"
        return
    for member in value:
        if isinstance(member, Mapping | list) and member:
            lines = list(block(member, indent + 2))
            yield f"{pad}- {lines[0].lstrip()}"
            yield from lines[1:]
        else:
            yield f"{pad}- {_leaf(member)}"


def _leaf(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{}"
    return "[]" if isinstance(value, list) else scalar(value)


def name_of(text: str) -> str:
    """Return a text as a valid name of a scrape."""
    return _NOT_IN_NAME.sub("-", text.lower()).strip("-")[:_NAME_LENGTH] or "scrape"
