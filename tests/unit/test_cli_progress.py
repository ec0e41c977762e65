"""The live view, the progress lines and the summary."""

from __future__ import annotations

import io
import re
from itertools import product
from typing import Any

import pytest

from scrapeq.cli.formatting import cut, limit_name, long_span, safe, span, table
from scrapeq.cli.live_view import in_ascii, screen
from scrapeq.cli.progress import progress_output
from scrapeq.cli.progress_lines import EVENTS_A_MINUTE, Lines, line
from scrapeq.cli.settings import Settings
from scrapeq.cli.summary import summary
from scrapeq.protocols import LimitView, Snapshot

NOW_S = 1_764_000_000.0
CLOSED = LimitView("core|a91f,", "closed", 764.0, 3, used=5000, size=5000, why="server reports 0 left")
OPEN = LimitView("search", "open", 0, 1)
PAUSED = LimitView("avatars", "paused", None, 0)


def a_snapshot(**changes: Any) -> Snapshot:
    """Return the state of a run, with changes."""
    known: dict[str, Any] = {"ready": 40, "delayed": 5, "leased": 3, "dead": 2, "done": 52, "per_s": 1.36}
    known |= {"requests": 60, "refused": 1, "items": 331, "waited_s": 62.0, "closings": 3, "left_s": 7200.0}
    known |= {"limits": (CLOSED, PAUSED, OPEN), "outputs": ("out/issues.jsonl",)}
    state = str(changes.pop("state", "running"))
    return Snapshot("api", state, 120.0, **(known | changes))


def test_the_screen_fits_the_terminal() -> None:
    """It has exactly the rows and at most the columns, for any number of runs, limits and events."""
    limits = tuple(LimitView(f"limit-{i}|{'h' * 50}", "parked", 5.0, 1, why="w" * 200) for i in range(40))
    events = [f"event {i} " + "e" * 300 for i in range(50)]
    for width, height, runs in product((20, 44, 80, 120, 250), (1, 2, 5, 24, 60), (1, 3)):
        lines = screen([a_snapshot(limits=limits)] * runs, events, width, height, NOW_S)
        assert len(lines) == height
        assert all(text.cell_len <= width for text in lines)


def test_the_screen_starts_with_the_most_important_lines() -> None:
    """Covers state, progress, rate, task counts, and closed limits with their times; a wide terminal shows reasons."""
    text = "\n".join(one.plain for one in screen([a_snapshot()], ["12:00:00 parked core"], 120, 24, NOW_S))
    assert "RUNNING as fast as the limits allow" in text.splitlines()[0]
    for words in (" 52% ", "52 done, 48 left", "1.36/s, 40 ready, 5 delayed, 3 leased, 2 dead", "core a91f"):
        assert words in text
    for words in (
        "5,000/5,000",
        "in 12m44s",
        "server reports 0 left",
        "12:00:00 parked core",
        "DEAD 2: scrapeq dead",
    ):
        assert words in text


def test_lines_that_do_not_fit_are_omitted_by_rank() -> None:
    """Events are omitted first, then open limits, then closed ones; the headline and the footer stay."""
    few = "\n".join(one.plain for one in screen([a_snapshot()], ["an event"], 80, 9, NOW_S))
    assert "core a91f" in few
    assert "an event" not in few
    least = screen([a_snapshot()], ["an event"], 80, 2, NOW_S)
    assert least[0].plain.startswith("scrapeq api  RUNNING")


def test_a_waiting_run_names_the_limit_and_the_time() -> None:
    """It shows the limit that opens first, the time of day and the duration."""
    waiting = a_snapshot(state="waiting")
    assert "WAITING for core a91f until" in screen([waiting], [], 120, 24, NOW_S)[0].plain
    assert "waiting for core a91f until" in line(waiting, NOW_S)
    assert "(in 12m44s)" in line(waiting, NOW_S)
    assert "waiting for avatars, paused" in line(a_snapshot(state="waiting", limits=(PAUSED,)), NOW_S)
    assert "until a task is due" in line(a_snapshot(state="waiting", limits=(), ready=0), NOW_S)


def test_data_does_not_control_the_terminal() -> None:
    """Escape sequences and marks that change the writing direction are replaced."""
    assert safe("a\x1b[2Jb\r\nc\u202ed\x9b") == "a?[2Jb??c?d?"
    out = io.StringIO()
    Lines(out, [("api", "api.yaml")]).event("dead \x1b]0;owned\x07")
    assert "\x1b" not in out.getvalue() and "\x07" not in out.getvalue()


def test_a_line_is_written_for_each_change_of_state_only() -> None:
    """Repeated updates write nothing; a change to draining writes a line at once."""
    out = io.StringIO()
    lines = Lines(out, [("api", "api.yaml")])
    for _ in range(20):
        lines.update([a_snapshot()])
    lines.update([a_snapshot(state="draining")])
    written = out.getvalue().splitlines()
    assert len(written) == 2
    assert re.fullmatch(
        r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d api 52%, 52 done, 48 left, 1.36/s, 5 delayed, 2 dead, ETA .*",
        written[0],
    )
    assert "draining" in written[1]


def test_a_flood_of_events_is_bounded() -> None:
    """Of a thousand events at once only the first are shown."""
    out = io.StringIO()
    lines = Lines(out, [("api", "api.yaml")])
    for i in range(1000):
        lines.event(f"event {i}")
    assert len(out.getvalue().splitlines()) == EVENTS_A_MINUTE


class _BrokenPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_run_continues_after_a_broken_pipe() -> None:
    """The error is ignored, and no more output is written."""
    lines = Lines(_BrokenPipe(), [("api", "api.yaml")])
    lines.update([a_snapshot()])
    lines.event("parked")
    lines.finish([a_snapshot(state="finished")])
    assert lines.final()[0]["done"] == 52


def test_the_screen_can_be_written_in_ascii() -> None:
    """A terminal without UTF-8 gets bars and ellipses that it can show."""
    texts = [in_ascii(text) for text in screen([a_snapshot()], ["parked cöre …"], 80, 24, NOW_S)]
    assert "###" in texts[1].plain
    assert all(text.plain.isascii() for text in texts)


def test_the_summary_shows_totals_and_the_next_commands() -> None:
    """Covers pages, items, refusals, waits, dead letters, output files, and commands for the remaining work."""
    text = "\n".join(summary(a_snapshot(state="stopped"), NOW_S, file="api.yaml"))
    assert text.startswith("api stopped, work left: 52 pages, 331 items in 2 min (")
    for words in (
        "requests  60, 1 refused (1.7%)",
        "1 min 2 s (52%) for limits to open",
        "they closed 3 times",
    ):
        assert words in text
    for words in ("2 dead letters", "48 tasks: 40 ready, 5 delayed, 3 in flight", "out/issues.jsonl"):
        assert words in text
    assert "next: scrapeq -c api.yaml dead" in text
    assert "      scrapeq -c api.yaml run" in text
    done = "\n".join(summary(a_snapshot(state="finished", dead=0, ready=0, delayed=0, leased=0), NOW_S))
    assert "next:" not in done


def test_durations_limit_names_and_tables_are_formatted() -> None:
    """Durations have at most two units, columns are aligned, limit names lose their separators."""
    assert [span(s) for s in (0, 34, 274, 8460, 273_600)] == ["0s", "34s", "4m34s", "2h21m", "3d4h"]
    assert [long_span(s) for s in (0.42, 34, 274, 8460)] == ["0.4 s", "34 s", "4 min 34 s", "2 h 21 min"]
    assert limit_name("core|a91f,") == "core a91f"
    assert cut("abcdef", 4) == "abc…"
    assert table([("ID", "URL"), ("7", "a"), ("12", "b")]) == ["ID  URL", " 7  a", "12  b"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("auto", "Lines"), ("live", "Lines"), ("lines", "Lines"), ("none", "ProgressOutput")],
)
def test_the_live_view_needs_a_terminal(how: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe never gets the live view, whatever --progress says."""
    assert type(progress_output(how, Settings(), [])).__name__ == expected
