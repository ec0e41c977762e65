"""XML as maps and lists: names as written (`media:title`), attributes as `@name`, mixed text as `#text`."""

from __future__ import annotations

import re
from html.entities import html5
from typing import Any
from xml.parsers import expat

import xmltodict

from scrapeq.errors import BrokenBody, ExtractError
from scrapeq.extract.other_content import own_words
from scrapeq.json_values import NOT_UNICODE, Repairs

_CUT_OFF = frozenset({3, 5, 6, 20})
"""expat's codes: no element, unclosed token, partial character, unclosed CDATA."""

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # XML 1.0, production 2
_ENTITY = re.compile(r"<!\[CDATA\[.*?\]\]>|&([A-Za-z_][\w.:-]*);|&#\w+;|(&)", re.DOTALL)
_DECLARED_ENTITY = re.compile(r"<!ENTITY\s+([A-Za-z_][\w.:-]*)\s")
_BUILT_IN = frozenset({"amp", "lt", "gt", "quot", "apos"})


def xml_tree(text: str, repairs: Repairs | None = None) -> Any:
    """
    Return the document as a map with its root; repeated elements are a list, an empty one is null.

    Entities that the document declares are replaced, within expat's bound for entities in entities. External entities
    and document types are never loaded; an external entity that is used is an error. The entities of HTML need no
    declaration, and the name of any other one stays in the text.

    Args:
        text: The document. It is text already, so its declared encoding has no effect.
        repairs: Receives a sentence for characters that XML forbids.

    Raises:
        BrokenBody: it is cut off.
        ExtractError: it is not well-formed XML, or uses an external entity.
    """
    text = text.strip("\ufeff \t\r\n\0")
    if _FORBIDDEN.search(text):
        text = _FORBIDDEN.sub("\ufffd", text)
        (repairs if repairs is not None else {})[NOT_UNICODE] = NOT_UNICODE
    if "&" in text:
        text = _with_known_entities(text)
    try:
        return xmltodict.parse(text, disable_entities=False, expat=_SafeExpat)
    except expat.ExpatError as error:
        kind = BrokenBody if error.code in _CUT_OFF else ExtractError
        raise kind(
            f"the response is not XML that scrapeq can read: {error}{own_words(text.encode())}"
        ) from None
    except (ValueError, LookupError, RecursionError) as error:
        raise ExtractError(f"the response is not XML that scrapeq can read: {error}") from None


def _with_known_entities(text: str) -> str:
    """Replace the entities that XML does not know and the document does not declare."""
    known = _BUILT_IN | set(_DECLARED_ENTITY.findall(text))

    def replaced(match: re.Match[str]) -> str:
        if match[2]:  # an ampersand that should have been escaped
            return "&amp;"
        name = match[1]
        if name is None or name in known:
            return match[0]
        return html5.get(f"{name};") or f"&amp;{name};"

    return _ENTITY.sub(replaced, text)


class _SafeExpat:
    """Stands in for the module `expat` in xmltodict, which does not set all handlers."""

    ExpatError = expat.ExpatError

    @staticmethod
    def ParserCreate(encoding: str | None, namespace_separator: str | None) -> Any:
        """Return a parser that loads nothing."""
        parser = expat.ParserCreate(encoding, namespace_separator)
        parser.ExternalEntityRefHandler = _refuse_external_entity

        def keep_name(name: str, is_parameter: int) -> None:
            write = parser.CharacterDataHandler
            if write is not None and not is_parameter:  # its declaration is in a part that is not loaded
                write(f"&{name};")

        parser.SkippedEntityHandler = keep_name
        return parser


def _refuse_external_entity(name: str | None, _base: object, address: str | None, _public: object) -> int:
    raise ExtractError(
        f"the response is XML with the external entity {name} ({address}), which scrapeq does not load"
    )
