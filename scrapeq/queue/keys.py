"""The names of a queue's Redis keys."""

from __future__ import annotations

from scrapeq.errors import UsageError

STATE_KEYS = ("run", "stats", "incomplete", "state", "schedule")
"""The run, its statistics, its incomplete page sequences, its cursors, its schedules."""


def key_of(name: str) -> str:
    """
    Return the control key of a queue; all keys of the queue are in its hash slot.

    Raises:
        UsageError: the name is empty or contains braces.
    """
    if not name or "{" in name or "}" in name:
        raise UsageError(f"queue name {name!r}: must not be empty or contain braces")
    return f"scrapeq:{{{name}}}:c"
