"""What tests need: a clock that is held, and the queue's reference model in memory (`scrapeq.testing.model`)."""

from scrapeq.testing.clock import FakeClock

__all__ = ["FakeClock"]
