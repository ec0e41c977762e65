"""
Regular expression searches over untrusted text, bounded in time.

Many patterns backtrack for hours on a text that was made for it, so a search stops after `SEARCH_S`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_INPUT = 100_000
"""Number of characters that are searched; the rest of a longer text is ignored."""
SEARCH_S = 0.25
"""Seconds of processor time for one search; a search that takes longer counts as no match."""

_limit_s = SEARCH_S
_error: type[BaseException] | None = None
_slow: dict[str, int] = {}


def limit_searches(seconds: float = SEARCH_S, error: type[BaseException] | None = None) -> None:
    """
    Bound searches until the next call.

    Args:
        seconds: The processor time that a search may take.
        error: Raised for a search that takes longer; None = it counts as no match.
    """
    global _limit_s, _error
    _limit_s, _error = seconds, error


def take_slow_patterns() -> dict[str, int]:
    """Return how many searches of each pattern took too long and so counted as no match, and forget them."""
    slow = dict(_slow)
    _slow.clear()
    return slow


def compile_search(pattern: str) -> Callable[[str], str | None]:
    """
    Return a function that searches a text and returns the first group, else the whole match, else None.

    Raises:
        ValueError: The pattern is not a valid regular expression.
    """
    # Unlike `re`, `regex` has a timeout. Imported here because few files need it and it slows every start.
    import regex

    try:
        re.compile(pattern)
        compiled = regex.compile(pattern)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a valid regular expression: {error}") from None

    def find(text: str) -> str | None:
        try:
            found = compiled.search(text, 0, MAX_INPUT, timeout=_limit_s)
        except TimeoutError:
            if _error is not None:
                raise _error from None
            _slow[pattern] = _slow.get(pattern, 0) + 1
            return None
        if found is None:
            return None
        group: str | None = found[1] if compiled.groups else found[0]
        return group

    return find
