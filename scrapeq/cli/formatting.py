"""Format numbers, durations, times, tables and untrusted text for the terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from scrapeq.sealing import mask_markers

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
SOON_S = 90  # a shorter time left is shown in seconds, a longer one as the time of day
SOFT_HYPHEN = "\xad"

# Control characters and marks that change the writing direction: scraped data must not control the terminal.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff" + SOFT_HYPHEN + "]")
_NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]?\d+)?")


def safe(text: str) -> str:
    """Return untrusted text as one line: without characters that could control a terminal, with secrets as `***`."""
    return _UNSAFE.sub("?", mask_markers(text))


def limit_name(instance: str) -> str:
    """Return a limit instance as it is shown: `core a91f` for `core|a91f,`."""
    name, _, parts = safe(instance).partition("|")
    return " ".join([name, *(part for part in parts.split(",") if part)])


def count(number: float) -> str:
    """Return `12,345`."""
    return f"{number:,.0f}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 task` or `12,345 tasks`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def rate(per_s: float) -> str:
    """Return a rate with about three significant digits: `1.36`, `0.004`, `1,204`."""
    if per_s >= 100 or per_s == 0:
        return count(per_s)
    return f"{per_s:.1f}" if per_s >= 10 else f"{per_s:.2f}" if per_s >= 0.1 else f"{per_s:.3f}"


def span(seconds: float) -> str:
    """Return a duration as the configuration writes it, in at most two units: `34s`, `4m34s`, `2h21m`, `3d4h`."""
    whole = max(0, round(seconds))
    for size, unit, next_size, next_unit in (
        (DAY_S, "d", HOUR_S, "h"),
        (HOUR_S, "h", MINUTE_S, "m"),
        (MINUTE_S, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size}{unit}{rest}{next_unit}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def long_span(seconds: float) -> str:
    """Return a duration in at most two units, spaced: `0.4 s`, `34 s`, `4 min 34 s`, `2 h 21 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    return re.sub(r"(\d+)([a-z])", r"\1 \2 ", span(seconds)).replace(" m ", " min ").strip()


def clock(unix_s: float, *, seconds: bool = True) -> str:
    """Return a time of day in UTC, with the date if it is more than half a day away."""
    moment = time.gmtime(unix_s)
    text = time.strftime("%H:%M:%S" if seconds else "%H:%M", moment)
    far = abs(unix_s - time.time()) > DAY_S / 2
    return f"{time.strftime('%Y-%m-%d', moment)} {text}" if far else text


def time_left(left_s: float | None, now_s: float) -> str:
    """Return when the work will be done, no more precise than the estimate is."""
    if left_s is None:
        return "ETA unknown"
    if left_s < SOON_S:
        return f"about {max(1, round(left_s))}s left"
    step = MINUTE_S if left_s < HOUR_S else 5 * MINUTE_S
    return f"ETA {clock((now_s + left_s) // step * step + step, seconds=False)}"


def cut(text: str, width: int, more: str = "…") -> str:
    """Return the text cut to at most `width` columns."""
    return text if len(text) <= width else text[: max(0, width - len(more))] + more[:width]


def table(rows: Sequence[tuple[str, ...]], width: int = 0) -> list[str]:
    """
    Return rows as aligned lines.

    Args:
        rows: The heading, then the rows. Columns of numbers are aligned to the right.
        width: Lines are cut at so many columns; 0 = never.
    """
    sizes = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = [all(_NUMBER.fullmatch(row[i]) for row in rows[1:] if row[i]) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(size) if to_right else cell.ljust(size)
            for cell, size, to_right in zip(row, sizes, right, strict=True)
        ]
        line = "  ".join(cells).rstrip()
        lines.append(cut(line, width) if width else line)
    return lines
