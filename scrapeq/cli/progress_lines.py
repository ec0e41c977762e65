"""Show the progress of runs as plain lines, or as nothing but the summary at the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from scrapeq.cli.formatting import clock, count, limit_name, rate, safe, span, time_left
from scrapeq.cli.summary import summary
from scrapeq.protocols import LimitView, Snapshot

LINE_EVERY_S = 60.0
FLIP_EVERY_S = 10.0  # a run that alternates between running and waiting gets a line no more often
EVENTS_A_MINUTE = 30  # further events are only counted


class ProgressOutput:
    """
    Shows only the summary; subclasses show more. Implements `protocols.Progress`.

    Args:
        out: The stream to write to. If its reader goes away, the run continues without output.
        runs: Name and file of each run.
        show_summary: Write the summary at the end.
    """

    def __init__(self, out: TextIO, runs: Sequence[tuple[str, str]], *, show_summary: bool = True) -> None:
        self.out = out
        self.runs = runs
        self.show_summary = show_summary
        self.snapshots: Sequence[Snapshot] = ()
        self._reader_is_gone = False

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """Take the current state of the runs."""
        self.snapshots = snapshots

    def event(self, text: str) -> None:
        """Show an event, such as a parked limit or a dead letter."""

    def finish(self, snapshots: Sequence[Snapshot]) -> None:
        """Show the summary of the ended runs."""
        self.snapshots = snapshots
        self.close()
        if self.show_summary:
            files = dict(self.runs) if len(self.runs) > 1 else {}
            texts = [summary(one, time.time(), file=files.get(one.name, "")) for one in snapshots]
            self.write("\n\n".join("\n".join(lines) for lines in texts))

    def close(self) -> None:
        """Restore the terminal. May be called more than once."""

    def final(self) -> list[dict[str, Any]]:
        """Return the last snapshots, for --json."""
        return [{**asdict(snapshot), "left": snapshot.left} for snapshot in self.snapshots]

    def write(self, text: str) -> None:
        """Write a text and a newline."""
        if self._reader_is_gone:
            return
        try:
            self.out.write(text + "\n")
            self.out.flush()
        except OSError:  # the reader of the pipe is gone or the disk is full; the scrape continues
            self._reader_is_gone = True


class Lines(ProgressOutput):
    """Shows a line a minute, and one for each change of state and each event."""

    def __init__(self, out: TextIO, runs: Sequence[tuple[str, str]]) -> None:
        super().__init__(out, runs)
        self._shown: dict[str, tuple[str, float]] = {}
        self._events: deque[float] = deque()
        self._omitted = 0

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """Write a line for each run whose state changed or whose last line is a minute old."""
        super().update(snapshots)
        now_s = time.time()
        for snapshot in snapshots:
            state, shown_s = self._shown.get(snapshot.name, ("", 0.0))
            changed = snapshot.state != state
            flips = {state, snapshot.state} == {"running", "waiting"}
            if now_s - shown_s >= LINE_EVERY_S or (
                changed and (not flips or now_s - shown_s >= FLIP_EVERY_S)
            ):
                self._shown[snapshot.name] = (snapshot.state, now_s)
                self.write(line(snapshot, now_s))

    def event(self, text: str) -> None:
        """Write an event at once; count those beyond `EVENTS_A_MINUTE`."""
        now_s = time.time()
        while self._events and self._events[0] <= now_s - LINE_EVERY_S:
            self._events.popleft()
        if len(self._events) >= EVENTS_A_MINUTE:
            self._omitted += 1
            return
        if self._omitted:
            self.write(f"{clock(now_s)} {count(self._omitted)} events omitted here; see .scrapeq/run.log")
            self._omitted = 0
        self._events.append(now_s)
        self.write(f"{clock(now_s)} {safe(text)}")


def percent(snapshot: Snapshot) -> float | None:
    """Return the share of the known tasks that is done; None if there are none."""
    total = snapshot.done + snapshot.left
    return 100 * snapshot.done / total if total else None


def next_to_open(snapshot: Snapshot) -> LimitView | None:
    """Return the closed limit that opens first, which a waiting run waits for."""
    closed = [limit for limit in snapshot.limits if limit.state != "open"]
    return min(closed, key=lambda limit: (limit.opens_s is None, limit.opens_s or 0.0), default=None)


def waiting_for(snapshot: Snapshot, now_s: float) -> str:
    """Return what a run waits for: `for core until 14:36:00 (in 4m34s)`."""
    limit = next_to_open(snapshot)
    silent = next(iter(snapshot.down), "")
    if limit is None:
        return "for a fetcher" if snapshot.ready else f"until a task is due{_not_answering(silent)}"
    if limit.state == "down":
        host = next((one for one in snapshot.down if one in limit.name), silent)
        at = (
            ""
            if limit.opens_s is None
            else f", next try at {clock(now_s + limit.opens_s)} (in {span(limit.opens_s)})"
        )
        return f"for {safe(host)}, which does not answer: {safe(snapshot.down.get(host, ''))}{at}"
    name = limit_name(limit.name)
    if limit.opens_s is None:
        return f"for {name}, paused" if limit.state == "paused" else f"for a response that opens {name}"
    return f"for {name} until {clock(now_s + limit.opens_s)} (in {span(limit.opens_s)})"


def _not_answering(host: str) -> str:
    return f"; {safe(host)} does not answer" if host else ""


def line(snapshot: Snapshot, now_s: float) -> str:
    """Return `14:30:26 github 65%, 88,331 done, 48,517 left, 3.81/s, 37 dead, ETA 17:35`."""
    parts: list[str] = []
    done = percent(snapshot)
    if done is not None:
        parts.append(f"{int(done)}%")
    parts += [f"{count(snapshot.done)} done", f"{count(snapshot.left)} left", f"{rate(snapshot.per_s)}/s"]
    if snapshot.delayed:
        parts.append(f"{count(snapshot.delayed)} delayed")
    parts.append(f"{count(snapshot.dead)} dead")
    if snapshot.state == "waiting":
        parts.append(f"waiting {waiting_for(snapshot, now_s)}")
    elif snapshot.state != "running":
        parts.append(snapshot.state.replace("_", " "))
    if snapshot.left and snapshot.state in ("running", "waiting"):
        parts.append(time_left(snapshot.left_s, now_s))
    return f"{clock(now_s)} {safe(snapshot.name)} {', '.join(parts)}"
