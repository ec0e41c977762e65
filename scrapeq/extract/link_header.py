"""Reads the Link header (RFC 8288, 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TARGET = re.compile(r"[\s,]*<([^>]*)>")
_BARE_TARGET = re.compile(
    r"[\s,]*((?:https?://|/|\?)[^\s<>;,]+(?:,[^\s<>;,=]+=?[^\s<>;,]*)*)(?=\s*;)", re.IGNORECASE
)
_PARAMETER = re.compile(
    r"""\s*;\s*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s;,"]*)))?)?""",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def link_target(header: str, rel: str) -> str | None:
    """
    Return the target of the first link with this relation, as written; None if there is none.

    Links with `anchor` describe another page and are skipped. Some servers leave out the angle brackets or use single
    quotes; both are accepted. Reading stops at any other malformed link.
    """
    target_rel = rel.lower()
    for target, parameters in _links(header):
        if "anchor" not in parameters and target_rel in parameters.get("rel", "").lower().split():
            return target
    return None


def _links(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    position = 0
    while match := _TARGET.match(header, position) or _BARE_TARGET.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while found := _PARAMETER.match(header, position):
            position = found.end()
            name, quoted, single, bare = found.groups()
            if name:
                value = single or bare or "" if quoted is None else _ESCAPED.sub(r"\1", quoted)
                parameters.setdefault(name.lower(), value)  # only the first `rel` counts (3.3)
        yield match[1].strip(), parameters
        rest = header.find(",", position)
        if rest < 0:
            return
        position = rest
