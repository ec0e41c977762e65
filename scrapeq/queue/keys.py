"""The names of a queue's Redis keys."""

from __future__ import annotations

from scrapeq.errors import UsageError

STATE_KEYS = ("run", "stats", "incomplete", "state", "schedule")
"""The run, its statistics, its incomplete page sequences, its cursors, its schedules."""

KEY_TYPES = {
    "c": "string",
    **dict.fromkeys(("task", "meta", "g", "l", "ld", "lane", "pa", "pool", "slots", "turn", "below"), "hash"),
    **dict.fromkeys(("delayed", "leased", "dead", "lanes", "lp", "gp", "wake", "room"), "zset"),
    "suspects": "set",
    **dict.fromkeys(STATE_KEYS, "hash"),
    "occurrence": "string",
    "scheduler": "string",
}
"""The Redis type of each key of a queue, by its name after the prefix."""

FAMILY_TYPES = {"r": "zset", "heads": "zset", "w": "set", "seen": "hash", "lh": "list"}
"""The Redis type of the keys `family:…` of a queue, by family."""


def mistyped_text(key: str, found: str, expected: str) -> str:
    """Return the message about a key that has another type than the queue needs."""
    return (
        f"the key {key} is a {found}, but the queue needs a {expected} of this name, so something else has written it. "
        "Delete that key and run again with --full-refresh, or give the file another `name`"
    )


def key_of(name: str) -> str:
    """
    Return the control key of a queue; all keys of the queue are in its hash slot.

    Raises:
        UsageError: the name is empty or contains braces.
    """
    if not name or "{" in name or "}" in name:
        raise UsageError(f"queue name {name!r}: must not be empty or contain braces")
    return f"scrapeq:{{{name}}}:c"
