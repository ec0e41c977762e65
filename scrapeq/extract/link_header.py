"""Reads the Link header (RFC 8288, 3), also in the spellings of servers that do not follow it."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_LENGTH = 16_384
"""The most characters of a header to read."""

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|<[^<>]*+>|,', re.DOTALL)
_NEXT_LINK = re.compile(r"\s*(?:,|$|<|[\"']?(?:https?://|/|\?)|rel\s*[=:])", re.IGNORECASE)
"""What follows a comma between two links; any other comma is a part of a URL or of a title."""
_BARE_TARGET = re.compile(
    r"[\s<\"']*((?:https?://|[./?]|[\w.~-]*\?)[^\s<>\"']*?)[>\"']?"
    r"(?=\s*[;\s]\s*(?:rel|rev|title|type|anchor|hreflang|media|results)\*?\s*[=:])",
    re.IGNORECASE,
)
_PARAMETER = re.compile(
    r"""(?:^|[;\s])\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*[=:]\s*"""
    r"""(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|["']?([^\s;,"']*))""",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_RELATION = r"(?<![\w-])rel\s*[=:]?[^;,]*(?<![\w-]){}(?![\w-])"


def link_target(header: str, rel: str) -> str | None:
    """
    Return the target of the first link with this relation, as written; None if there is none.

    Links with `anchor` describe another page and are skipped. Missing angle brackets, missing or single quotes, and
    separators in the wrong places are accepted.
    """
    target_rel = rel.lower()
    if target_rel not in header.lower():
        return None
    for target, parameters in _links(header[:MAX_LENGTH]):
        if "anchor" not in parameters and target_rel in parameters.get("rel", "").lower().split():
            return target
    return None


def mentions(header: str, rel: str) -> bool:
    """Return whether a header names a relation, even if its link cannot be read."""
    found = re.search(_RELATION.format(re.escape(rel)), header[:MAX_LENGTH], re.IGNORECASE)
    return bool(found) and "anchor" not in header


def _links(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for text, target in _pieces(header):
        rest = text
        if target is None:
            bare = _BARE_TARGET.match(text)
            if bare is None:
                continue
            target, rest = bare[1], text[bare.end() :]
        parameters: dict[str, str] = {}
        for name, quoted, single, plain in _PARAMETER.findall(rest):
            value = _ESCAPED.sub(r"\1", quoted) or single or plain
            parameters.setdefault(name.lower(), value)  # only the first `rel` counts (3.3)
        yield target.strip(), parameters


def _pieces(header: str) -> Iterator[tuple[str, str | None]]:
    """Yield each link: its text without the target in angle brackets, and this target, None if it has no brackets."""
    text, target, position = "", None, 0
    for token in _TOKEN.finditer(header):
        between, position = header[position : token.start()], token.end()
        text += between
        if token[0].startswith("<"):
            if target is not None:  # another link behind the wrong separator
                yield text, target
                text = ""
            target = token[0][1:-1]
        elif token[0] == "," and _NEXT_LINK.match(header, position):
            yield text, target
            text, target = "", None
        else:
            text += token[0]
    yield text + header[position:], target
