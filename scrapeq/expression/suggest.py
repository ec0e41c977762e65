"""The nearest right word, for messages."""

from __future__ import annotations

from collections.abc import Collection

MAX_WORD = 40


def did_you_mean(word: str, known: Collection[str]) -> str | None:
    """The known word nearest to `word`, or None when none is near; case and `-` count for little."""
    if not word or len(word) > MAX_WORD:
        return None
    from difflib import get_close_matches  # only an error pays for it

    folded = {name.lower().replace("-", "_"): name for name in sorted(known, reverse=True)}
    found = get_close_matches(word.lower().replace("-", "_"), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None
