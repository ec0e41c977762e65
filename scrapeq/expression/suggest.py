"""Suggestions for misspelled words, for messages."""

from __future__ import annotations

from collections.abc import Collection

MAX_WORD = 40


def did_you_mean(word: str, known: Collection[str]) -> str | None:
    """Return the known word most similar to `word`, or None; ignores case, and `-` equals `_`."""
    if not word or len(word) > MAX_WORD:
        return None
    from difflib import get_close_matches  # imported here because only errors need it

    folded = {name.lower().replace("-", "_"): name for name in sorted(known, reverse=True)}
    found = get_close_matches(word.lower().replace("-", "_"), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None
