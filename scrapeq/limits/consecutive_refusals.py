"""Refusals in a row, as one process sees them. Pure."""

from __future__ import annotations


class ConsecutiveRefusals:
    """
    Counts the refusals in a row of each group; times are monotonic seconds.

    Refusals of requests that were on their way together are one: only one that was sent after the last refusal was
    heard says that the wait was too short.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def count_with(self, group: str, sent_s: float) -> int:
        """How many there are in a row, should the request sent at `sent_s` be refused."""
        count, heard_s = self._seen.get(group, (0, float("-inf")))
        return count + 1 if sent_s > heard_s else count

    def refused(self, group: str, count: int, now_s: float) -> None:
        """It was refused, as the `count`th in a row."""
        self._seen[group] = count, now_s

    def succeeded(self, group: str) -> None:
        """It was not: the row is at its end."""
        self._seen.pop(group, None)
