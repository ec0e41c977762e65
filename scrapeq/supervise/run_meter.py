"""Measurements of a run while it goes on: its speed, its waits, and the snapshots that the user sees."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from scrapeq.protocols import Snapshot
from scrapeq.queue import Counts

RATE_WINDOW_S = 10.0


class RunMeter:
    """
    Measures one run from its start.

    Args:
        name: The run's name in snapshots.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._started_s = time.monotonic()
        self._last_measured_s = self._started_s
        self._idle_since_s: float | None = None
        self._waited_s = 0.0
        self._done_at: list[tuple[float, int]] = []  # (time, tasks that had ended by then)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_s

    @property
    def idle_s(self) -> float | None:
        """Seconds in which tasks have been left but none was in flight; None while one is."""
        return None if self._idle_since_s is None else time.monotonic() - self._idle_since_s

    def measure(self, counts: Counts, *, ready: bool) -> None:
        """
        Take a measurement.

        Args:
            counts: The queue's counts now.
            ready: Whether a fetcher is ready; time before that is not time spent waiting.
        """
        now_s = time.monotonic()
        if ready and counts.live and not counts.leased:
            self._waited_s += now_s - self._last_measured_s
            self._idle_since_s = self._idle_since_s or now_s
        else:
            self._idle_since_s = None
        self._last_measured_s = now_s
        self.record_done(counts)
        while self._done_at[0][0] < now_s - RATE_WINDOW_S:
            self._done_at.pop(0)

    def record_done(self, counts: Counts) -> None:
        """Note how many tasks have ended by now; dead letters count, too."""
        self._done_at.append((time.monotonic(), counts.done + counts.died))

    def snapshot(self, state: str, counts: Counts, stats: Mapping[str, float], **details: Any) -> Snapshot:
        """
        Return how the run stands.

        Args:
            state: The run's state (`Snapshot.state`).
            counts: The queue's counts now.
            stats: What the fetchers have counted.
            details: The fields of `Snapshot` that are not measured here: limits, outputs, workers, message.
        """
        per_s = self._per_s()
        return Snapshot(
            self._name,
            state,
            self.elapsed_s,
            ready=counts.ready,
            delayed=counts.delayed,
            leased=counts.leased,
            dead=counts.dead,
            done=int(stats.get("done", 0)),
            per_s=per_s,
            requests=int(stats.get("requests", 0)),
            refused=int(stats.get("refused", 0)),
            retried=int(stats.get("retried", 0)),
            not_modified=int(stats.get("not_modified", 0)),
            cached=int(stats.get("cached", 0)),
            items=int(stats.get("items", 0)),
            unchanged=int(stats.get("unchanged", 0)),
            waited_s=self._waited_s,
            left_s=counts.live / per_s if per_s > 0 else None,
            **details,
        )

    def empty_snapshot(self, state: str, message: str = "") -> Snapshot:
        """Return a snapshot without counts, for when the store has not been read."""
        return Snapshot(self._name, state, self.elapsed_s, message=message)

    def _per_s(self) -> float:
        (first_s, first), (last_s, last) = self._done_at[0], self._done_at[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0
