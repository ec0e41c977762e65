"""What there is to do: walks of pages under limits, at a priority."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scrapeq.errors import UsageError
from scrapeq.task import Group


@dataclass(frozen=True, slots=True)
class Work:
    """
    `count` walks of `pages` requests each; a walk sends a page when the one before is answered.

    Args:
        group: What limits its requests share.
        count: Walks; each first page is a task that may be sent at once.
        priority: Higher goes first, ties in the order given.
        pages: Requests of one walk.
        delay_s: Seconds before which none is sent.
        label: What it is called in the forecast: its resource, say.
        follows: The label of work whose answers bring this: its walks begin evenly as those are answered.
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
            raise UsageError(f"{self.label or 'work'}: {self.count} walks of {self.pages} pages are none")
        if not math.isfinite(self.priority) or not (math.isfinite(self.delay_s) and self.delay_s >= 0):
            raise UsageError(
                f"{self.label or 'work'}: priority and delay must be finite, the delay 0 or more"
            )

    @property
    def requests(self) -> int:
        """All its requests."""
        return self.count * self.pages
