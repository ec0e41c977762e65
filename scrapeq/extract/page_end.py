"""How servers state that nothing follows: values that lead nowhere, and signs beside a next link. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from scrapeq.expression import as_number
from scrapeq.extract import known_names as names
from scrapeq.extract.known_names import normalize
from scrapeq.extract.link_header import link_target

_NOTHING = frozenset({"", "null", "none", "nil", "undefined", "nan", "n/a"})
_END_WORDS = _NOTHING | {"false", "0", "-1", "eof", "end", "done"}
_PAGING_PARAMS = frozenset(
    normalize(name)
    for name in (
        *names.PAGE_PARAMS,
        *names.OFFSET_PARAMS,
        *(one for known in names.CURSOR_KEYS.values() for one in (known.default, *known.others)),
    )
)
"""Parameters that say which page a link leads to."""


def is_end_mark(value: Any) -> bool:
    """Return whether a next link or cursor with this value means that there is none: null, "", 0, -1, "None" …"""
    if isinstance(value, str):
        return value.strip().lower() in _END_WORDS
    return not value or value == -1


def leads_nowhere(url: str) -> bool:
    """Return whether a next link names no page: all its parameters that could are empty or null (`?cursor=null`)."""
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return False
    values = [value for name, value in pairs if normalize(name) in _PAGING_PARAMS]
    return bool(values) and all(value.strip().lower() in _NOTHING | {"-1"} for value in values)


def is_past_end(url: str, link_header: str, roles: dict[str, int], total: int | None, count: int) -> bool:
    """
    Return whether the numbers of a page say that nothing follows it.

    Args:
        url: Its request.
        link_header: Its Link header.
        roles: What the numbers in its body mean: `own`, `pages` … (`known_names.NUMBER_ROLES`).
        total: The number of records in all; None = unknown.
        count: The records of its pagination up to this page.
    """
    if total is not None and count >= total:
        return True
    page, offset = _number(url, names.PAGE_PARAMS), _number(url, names.OFFSET_PARAMS)
    if total is not None and offset is not None and offset >= total:
        return True
    pages, own = roles.get("pages"), roles.get("own", page)
    if pages is not None and own is not None and own >= pages:
        return True
    last = link_target(link_header, "last")
    end = None if last is None else _number(last, names.PAGE_PARAMS)
    return page is not None and end is not None and page >= end


def _number(url: str, known: Sequence[str]) -> int | None:
    """Return the number that a URL has in one of these parameters."""
    try:
        pairs = dict(parse_qsl(urlsplit(url).query))
    except ValueError:
        return None
    found = (as_number(pairs[name]) for name in known if name in pairs)
    return next((int(number) for number in found if number is not None and math.isfinite(number)), None)
