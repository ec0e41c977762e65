"""The work to simulate: page sequences under rate limits, with a priority."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scrapeq.errors import UsageError
from scrapeq.task import Group


@dataclass(frozen=True, slots=True)
class Work:
    """
    `count` sequences of `pages` requests each; each request is sent after the response to the previous one.

    Args:
        group: The limits that its requests share.
        count: Page sequences; the first request of each may be sent at once.
        priority: Higher goes first; work of equal priority goes in the given order.
        pages: Requests of one sequence.
        delay_s: Seconds before which no request is sent.
        label: Its name in the forecast, for example the resource.
        follows: The label of work whose responses start this work: its sequences start evenly as those arrive.
    """

    group: Group
    count: int
    priority: float = 0.0
    pages: int = 1
    delay_s: float = 0.0
    label: str = ""
    follows: str = ""

    def __post_init__(self) -> None:
        if self.count < 0 or self.pages < 1:
            raise UsageError(
                f"{self.label or 'work'}: count must be at least 0 and pages at least 1,"
                f" not {self.count} and {self.pages}"
            )
        if not math.isfinite(self.priority) or not (math.isfinite(self.delay_s) and self.delay_s >= 0):
            raise UsageError(
                f"{self.label or 'work'}: priority and delay must be finite, and the delay not negative"
            )

    @property
    def requests(self) -> int:
        """The number of all its requests."""
        return self.count * self.pages
