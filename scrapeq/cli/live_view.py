"""Show the progress of runs on the terminal's alternate screen, redrawn at most twice a second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from scrapeq.cli.formatting import clock, count, counted, limit_name, rate, safe, span, time_left
from scrapeq.cli.progress_lines import ProgressOutput, percent, waiting_for
from scrapeq.protocols import LimitView, Snapshot

REDRAW_S = 0.5
EVENTS_KEPT = 50
ESTIMATE_EVERY_S = 10.0  # the time left changes no more often
WIDE = 100  # a terminal with so many columns shows why a limit is closed
CLEAR_LINE = "\r\x1b[K"  # erases the "^C" that the terminal writes
BAR_MIN, BAR_MAX = 8, 60  # columns
CLOSED_RANK, OPEN_RANK, EVENT_RANK = 10_000, 20_000, 30_000  # of a `Line`
NAME_MAX, NARROW_NAME_MAX = 32, 26  # columns of a limit's name
ASCII = str.maketrans({"━": "#", "╌": "-", "…": "~"})
HEADLINES = {
    "starting": ("STARTING", "bold"),
    "running": ("RUNNING as fast as the limits allow", "bold green"),
    "waiting": ("WAITING", "bold yellow"),
    "draining": ("STOPPING: finishing the requests in flight", "bold yellow"),
    "finished": ("FINISHED", "bold green"),
    "stopped": ("STOPPED", "bold yellow"),
    "gave_up": ("GAVE UP waiting for a limit", "bold yellow"),
    "failed": ("FAILED", "bold red"),
}
# A closed limit is normal, so it is yellow; red means that the user has to act.
STATE_STYLES = {"open": "green", "closed": "yellow", "parked": "yellow", "paused": "cyan", "down": "red"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the screen. If the terminal is too small, lines with the highest rank are omitted first."""

    text: Text
    rank: int = 0


class LiveView(ProgressOutput):
    """The live view. `close` restores the screen that was there before."""

    def __init__(self, out: TextIO, runs: Sequence[tuple[str, str]]) -> None:
        super().__init__(out, runs)
        self._events: deque[str] = deque(maxlen=EVENTS_KEPT)
        self._last_draw_s = 0.0
        self._estimates: dict[str, tuple[float, str]] = {}
        self._is_ascii_only = "utf" not in (out.encoding or "").lower()
        self._console = Console(file=out, highlight=False, emoji=False, markup=False)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._closed = False

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """Redraw if a state changed or the last redraw is long enough ago."""
        changed = [one.state for one in snapshots] != [one.state for one in self.snapshots]
        super().update(snapshots)
        now = time.monotonic()
        if not self._reader_is_gone and not self._closed and (changed or now - self._last_draw_s >= REDRAW_S):
            self._last_draw_s = now
            self._draw()

    def event(self, text: str) -> None:
        """Show an event with the next redraw."""
        self._events.appendleft(f"{clock(time.time())} {safe(text)}")

    def close(self) -> None:
        """Restore the screen that was there before."""
        if not self._closed:
            self._closed = True
            try:
                self._live.stop()
                self.out.write(CLEAR_LINE)
                self.out.flush()
            except OSError:
                self._reader_is_gone = True

    def _draw(self) -> None:
        width, height = self._console.size
        lines = screen(self.snapshots, list(self._events), width, height, time.time(), self._estimate)
        if self._is_ascii_only:
            lines = [in_ascii(line) for line in lines]
        try:
            if not self._live.is_started:
                self._live.start()
            self._live.update(Text("\n").join(lines), refresh=True)
        except OSError:  # the terminal is gone; the scrape continues
            self._reader_is_gone = True

    def _estimate(self, snapshot: Snapshot, now_s: float) -> str:
        shown_s, text = self._estimates.get(snapshot.name, (0.0, ""))
        if now_s - shown_s >= ESTIMATE_EVERY_S:
            text = time_left(snapshot.left_s, now_s)
            if snapshot.left_s is not None:
                self._estimates[snapshot.name] = (now_s, text)
        return text


def screen(
    snapshots: Sequence[Snapshot],
    events: Sequence[str],
    width: int,
    height: int,
    now_s: float,
    estimate: object = None,
) -> list[Text]:
    """
    Return the lines of the screen: at most `height`, each at most `width` columns wide.

    If they do not fit, events are omitted first, then open limits, then closed limits, then details.

    Args:
        snapshots: The runs.
        events: The latest events, newest first.
        width, height: The size of the terminal.
        now_s: The current time, Unix seconds.
        estimate: A function (snapshot, now_s) that returns the time left as text; None = `time_left`.
    """
    guess = estimate if callable(estimate) else lambda snapshot, now: time_left(snapshot.left_s, now)
    lines: list[Line] = []
    for snapshot in snapshots:
        lines += _run(snapshot, width, now_s, guess(snapshot, now_s))
    footer = _footer(snapshots, width)
    lines += [Line(Text(event), EVENT_RANK + i) for i, event in enumerate(events[: max(0, height)])]
    over = len(lines) + len(footer) - height
    if over > 0:
        last = sorted(range(len(lines)), key=lambda i: (lines[i].rank, i), reverse=True)[:over]
        dropped = set(last)
        lines = [line for i, line in enumerate(lines) if i not in dropped]
    else:
        lines += [Line(Text(""))] * -over
    texts = [line.text for line in lines][: max(0, height - len(footer))] + footer
    for text in texts:
        text.no_wrap = True
        text.truncate(width, overflow="ellipsis")
    return texts[:height]


def _run(snapshot: Snapshot, width: int, now_s: float, left: str) -> list[Line]:
    headline, style = HEADLINES.get(snapshot.state, (snapshot.state.upper(), "bold"))
    if snapshot.state == "waiting":
        headline += f" {waiting_for(snapshot, now_s)}"
    head = Text(f"scrapeq {safe(snapshot.name)}  ").append(headline, style)
    up = f"up {span(snapshot.elapsed_s)}"
    lines = [Line(_apart(head, width, f"{clock(now_s)} UTC, {up}", f"{clock(now_s)}, {up}", up))]
    lines.append(Line(_bar_line(snapshot, width), 1))
    numbers = Text(f"{rate(snapshot.per_s)}/s, ")
    states = (("ready", snapshot.ready), ("delayed", snapshot.delayed), ("leased", snapshot.leased))
    numbers.append(", ".join(f"{count(number)} {word}" for word, number in states))
    numbers.append(", ").append(f"{count(snapshot.dead)} dead", "red" if snapshot.dead else "")
    lines.append(Line(_apart(numbers, width, left if snapshot.left else ""), 1))
    totals = f"{counted(snapshot.items, 'item')}, {counted(snapshot.requests, 'request')}"
    totals += f", {count(snapshot.refused)} refused"
    waited = (
        f"waited {span(snapshot.waited_s)}, limits closed {counted(snapshot.closings, 'time')}"
        if snapshot.closings
        else ""
    )
    lines.append(Line(_apart(Text(totals), width, waited), 3))
    lines.append(Line(Text(""), 4))
    if snapshot.limits:
        lines += _limits(snapshot.limits, width, now_s)
        lines.append(Line(Text(""), 4))
    return lines


def _apart(left: Text, width: int, *rights: str) -> Text:
    """Return `left` with the first of `rights` that fits aligned to the right, if any fits."""
    for right in rights:
        room = width - left.cell_len - len(right)
        if right and room > 1:
            return left.append(" " * room).append(right)
    return left


def _bar_line(snapshot: Snapshot, width: int) -> Text:
    done = percent(snapshot)
    words = f"  {count(snapshot.done)} done, {count(snapshot.left)} left"
    size = min(BAR_MAX, width - len(words) - len("100% "))
    text = Text(f"{0 if done is None else int(done):3d}% ")
    if size >= BAR_MIN:
        full = round(size * (done or 0) / 100)
        text.append("━" * full, "green").append("╌" * (size - full), "dim")
    return text.append(words)


def _limits(limits: Sequence[LimitView], width: int, now_s: float) -> list[Line]:
    wide = width >= WIDE
    name_width = min(
        NAME_MAX if wide else NARROW_NAME_MAX,
        max(len("LIMIT"), *(len(limit_name(limit.name)) for limit in limits)),
    )
    head = f"{'LIMIT':{name_width}} STATE  {'USED':>11} {'UNTIL':20} {'IN FLIGHT':>9}"
    lines = [Line(Text(head + ("  WHY" if wide else ""), "bold"), 2)]
    for i, limit in enumerate(limits):
        name = limit_name(limit.name)
        if len(name) > name_width:
            name = name[: name_width - 1] + "…"
        text = Text(f"{name:{name_width}} ").append(f"{limit.state:6}", STATE_STYLES.get(limit.state, ""))
        text.append(f" {_used(limit):>11} {_until(limit, now_s):20} {limit.in_flight:9d}")
        if wide and limit.why:
            text.append(f"  {safe(limit.why)}")
        lines.append(Line(text, (OPEN_RANK if limit.state == "open" else CLOSED_RANK) + i))
    return lines


def _used(limit: LimitView) -> str:
    if limit.used is None:
        return ""
    return count(limit.used) if limit.size is None else f"{count(limit.used)}/{count(limit.size)}"


def _until(limit: LimitView, now_s: float) -> str:
    if limit.opens_s == 0:
        return ""
    if limit.opens_s is None:
        return "resumed" if limit.state == "paused" else "a response"
    return f"{clock(now_s + limit.opens_s)} in {span(limit.opens_s)}"


def _footer(snapshots: Sequence[Snapshot], width: int) -> list[Text]:
    dead = sum(snapshot.dead for snapshot in snapshots)
    command = "scrapeq dead" if len(snapshots) == 1 else "scrapeq -c FILE dead"
    keys = Text("Ctrl-C drains and stops, a second one stops at once", "dim")
    return [_apart(keys, width, f"DEAD {count(dead)}: {command}" if dead else "")]


def in_ascii(text: Text) -> Text:
    """Return the text for a terminal whose encoding is not UTF."""
    text.plain = text.plain.translate(ASCII).encode("ascii", "replace").decode()
    return text
