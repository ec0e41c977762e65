"""XML as maps and lists: names as written (`media:title`), attributes as `@name`, mixed text as `#text`."""

from __future__ import annotations

from typing import Any
from xml.parsers.expat import ExpatError

import xmltodict

from scrapeq.errors import BrokenBody, ExtractError

_CUT_OFF = frozenset(
    {3, 5, 6, 20}
)  # expat's codes: no element, unclosed token, partial character, unclosed CDATA


def xml_tree(body: bytes | str) -> Any:
    """
    Return the document as a map with its root; repeated elements are a list, an empty one is null.

    Raises:
        BrokenBody: it is cut off.
        ExtractError: it is not well-formed XML, or declares entities.
    """
    try:
        return xmltodict.parse(body, disable_entities=True)
    except ExpatError as error:
        kind = BrokenBody if error.code in _CUT_OFF else ExtractError
        raise kind(f"the response is not XML that scrapeq can read: {error}") from None
    except (ValueError, LookupError, RecursionError) as error:
        raise ExtractError(f"the response is not XML that scrapeq can read: {error}") from None
