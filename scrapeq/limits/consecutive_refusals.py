"""Count the consecutive refusals of each group within one process. Pure."""

from __future__ import annotations


class ConsecutiveRefusals:
    """
    The consecutive refusals of each group; times are monotonic seconds.

    Refusals of requests that were in flight together count as one: only the refusal of a request sent after the last
    one was observed shows that the wait was too short.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}  # group -> (count, when it was observed)

    def count_with(self, group: str, sent_s: float) -> int:
        """Return the count if the request sent at `sent_s` is refused, too."""
        count, observed_s = self._last.get(group, (0, float("-inf")))
        return count + 1 if sent_s > observed_s else count

    def refused(self, group: str, count: int, now_s: float) -> None:
        """Record a refusal with its count from `count_with`."""
        self._last[group] = count, now_s

    def succeeded(self, group: str) -> None:
        """Record any other response, which resets the count."""
        self._last.pop(group, None)
