"""XML as maps and lists: names as they are written (`media:title`), attributes as `@name`, mixed text as `#text`."""

from __future__ import annotations

from typing import Any
from xml.parsers.expat import ExpatError

import xmltodict

from scrapeq.errors import ExtractError


def xml_tree(body: bytes | str) -> Any:
    """
    The document as a map of its root; elements of one name are a list, an empty one is null. No entities are declared.

    Raises:
        ExtractError: it is no XML, or declares entities.
    """
    try:
        return xmltodict.parse(body, disable_entities=True)
    except (ExpatError, ValueError, LookupError, RecursionError) as error:
        raise ExtractError(f"the answer is no XML that is read: {error}") from None
