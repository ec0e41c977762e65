"""Regular expressions over text from outside, bounded in time: of most patterns some text makes a search of hours."""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_INPUT = 100_000
"""Characters that are looked at."""
SEARCH_S = 0.25
"""Seconds of processor time for one search; what is not found by then is not there."""


def compile_search(pattern: str) -> Callable[[str], str | None]:
    """
    What finds a pattern in a text: its first group, else the whole match, else null.

    Raises:
        ValueError: it is no regular expression.
    """
    import regex  # `re` cannot be stopped; few files need it, and every start would pay for it

    try:
        re.compile(pattern)
        compiled = regex.compile(pattern)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"no regular expression: {error}") from None

    def find(text: str) -> str | None:
        try:
            found = compiled.search(text, 0, MAX_INPUT, timeout=SEARCH_S)
        except TimeoutError:
            return None
        if found is None:
            return None
        group: str | None = found[1] if compiled.groups else found[0]
        return group

    return find
