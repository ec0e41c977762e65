"""What a `Fetcher` needs of rate limits, in this process (`local_limits`) or in a store (`shared_limits`)."""

from __future__ import annotations

from typing import Protocol

from scrapeq.limits.attribution import Attribution
from scrapeq.limits.judge import Judge
from scrapeq.task import Group


class Permit(Protocol):
    """The right to send one request."""

    @property
    def group(self) -> Group:
        """The limits that granted it."""

    @property
    def sent_s(self) -> float:
        """When it was granted, monotonic seconds."""

    def settle(self, attribution: Attribution | None, *, was_sent: bool = True) -> None:
        """
        Report what the response did to the limits. Only the first call counts.

        Args:
            attribution: See `Judge`; None when no response came or the request was not sent.
            was_sent: Whether the request left this machine: else its grant is refunded.
        """


class Limiter(Protocol):
    """Grants permits within rate limits."""

    @property
    def judge(self) -> Judge:
        """What judges the responses to its requests."""

    async def acquire(self, url: str, method: str = "GET", *, max_wait_s: float | None = None) -> Permit:
        """
        Wait until every limit of the request grants it.

        Raises:
            RateLimited: a limit stays closed for more than `max_wait_s` seconds.
        """

    async def try_acquire(self, url: str, method: str = "GET") -> Permit | None:
        """Return a permit if every limit grants one now, else None."""
