"""How a run shows itself: live on a terminal, in lines elsewhere, or not at all; and its summary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from scrapeq.cli.formatting import clock, count, ends, limit_name, rate, safe, span
from scrapeq.cli.summary import summary
from scrapeq.protocols import LimitView, Snapshot

LINE_EVERY_S = 60.0
TURN_EVERY_S = 10.0  # a run that turns from running to waiting and back is said no more often
EVENTS_A_MINUTE = 30  # the rest is counted
ENDED = ("finished", "stopped", "gave_up", "failed")


class ProgressOutput:
    """
    Shows nothing but the summary; the others add to it. A progress in the sense of `protocols.Progress`.

    Args:
        out: Where it is shown; once nobody reads there, the run goes on in silence.
        runs: Name and file of each run.
        summed: Show the summary at the end.
    """

    def __init__(self, out: TextIO, runs: Sequence[tuple[str, str]], *, summed: bool = True) -> None:
        self.out = out
        self.runs = runs
        self.summed = summed
        self.snapshots: Sequence[Snapshot] = ()
        self._gone = False

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """How the runs stand now."""
        self.snapshots = snapshots

    def event(self, text: str) -> None:
        """Something worth a line."""

    def finish(self, snapshots: Sequence[Snapshot]) -> None:
        """The end: the summary."""
        self.snapshots = snapshots
        self.close()
        if self.summed:
            files = dict(self.runs) if len(self.runs) > 1 else {}
            texts = [summary(one, time.time(), file=files.get(one.name, "")) for one in snapshots]
            self.write("\n\n".join("\n".join(lines) for lines in texts))

    def close(self) -> None:
        """Leave the terminal as it was; may be repeated."""

    def final(self) -> list[dict[str, Any]]:
        """The last snapshots, for --json."""
        return [{**asdict(snapshot), "left": snapshot.left} for snapshot in self.snapshots]

    def write(self, text: str) -> None:
        """A text on lines of its own."""
        if self._gone:
            return
        try:
            self.out.write(text + "\n")
            self.out.flush()
        except OSError:  # the pipe's reader is gone, or the disk is full: the scrape matters more
            self._gone = True


class Lines(ProgressOutput):
    """A line a minute, and one at each change and event."""

    def __init__(self, out: TextIO, runs: Sequence[tuple[str, str]]) -> None:
        super().__init__(out, runs)
        self._said: dict[str, tuple[str, float]] = {}
        self._events: deque[float] = deque()
        self._left_out = 0

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """Says a line where a minute is over, or where it turned."""
        super().update(snapshots)
        now_s = time.time()
        for snapshot in snapshots:
            state, said_s = self._said.get(snapshot.name, ("", 0.0))
            turned = snapshot.state != state
            flips = {state, snapshot.state} == {"running", "waiting"}
            if now_s - said_s >= LINE_EVERY_S or (turned and (not flips or now_s - said_s >= TURN_EVERY_S)):
                self._said[snapshot.name] = (snapshot.state, now_s)
                self.write(line(snapshot, now_s))

    def event(self, text: str) -> None:
        """Says it at once; of many in a minute the rest is counted."""
        now_s = time.time()
        while self._events and self._events[0] <= now_s - LINE_EVERY_S:
            self._events.popleft()
        if len(self._events) >= EVENTS_A_MINUTE:
            self._left_out += 1
            return
        if self._left_out:
            self.write(
                f"{clock(now_s)} {count(self._left_out)} events were left out here; .scrapeq/run.log has all"
            )
            self._left_out = 0
        self._events.append(now_s)
        self.write(f"{clock(now_s)} {safe(text)}")


def percent(snapshot: Snapshot) -> float | None:
    """How much of what is known is done; None while nothing is."""
    whole = snapshot.done + snapshot.left
    return 100 * snapshot.done / whole if whole else None


def holding(snapshot: Snapshot) -> LimitView | None:
    """The closed limit that opens first: what a waiting run waits for."""
    closed = [limit for limit in snapshot.limits if limit.state != "open"]
    return min(closed, key=lambda limit: (limit.opens_s is None, limit.opens_s or 0.0), default=None)


def waiting_for(snapshot: Snapshot, now_s: float) -> str:
    """`for core until 14:36:00 (in 4m34s)`: the limit, or what else it is."""
    limit = holding(snapshot)
    if limit is None:
        return "for a fetcher" if snapshot.ready else "until a task is due"
    name = limit_name(limit.name)
    if limit.opens_s is None:
        return f"for {name}, paused" if limit.state == "paused" else f"for an answer that opens {name}"
    return f"for {name} until {clock(now_s + limit.opens_s)} (in {span(limit.opens_s)})"


def line(snapshot: Snapshot, now_s: float) -> str:
    """`14:30:26 github 65 %, 88,331 done, 48,517 left, 3.81/s, dead 37, done about 17:32`."""
    parts: list[str] = []
    done = percent(snapshot)
    if done is not None:
        parts.append(f"{int(done)} %")
    parts += [f"{count(snapshot.done)} done", f"{count(snapshot.left)} left", f"{rate(snapshot.per_s)}/s"]
    if snapshot.delayed:
        parts.append(f"delayed {count(snapshot.delayed)}")
    parts.append(f"dead {count(snapshot.dead)}")
    if snapshot.state == "waiting":
        what = waiting_for(snapshot, now_s)
        parts.append(f"waiting {what}")
    elif snapshot.state != "running":
        parts.append(snapshot.state.replace("_", " "))
    if snapshot.left and snapshot.state in ("running", "waiting"):
        parts.append(ends(snapshot.left_s, now_s))
    return f"{clock(now_s)} {safe(snapshot.name)} {', '.join(parts)}"
