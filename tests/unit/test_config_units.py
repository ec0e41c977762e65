"""Parsing and writing durations and sizes, and the messages for invalid ones."""

from __future__ import annotations

import pytest

from scrapeq.config.units import UnitError, read_duration, read_size, write_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1h30m", 5400), ("7d", 604800), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is read as seconds; writing and reading it again gives the same value."""
    assert read_duration(text) == seconds
    assert read_duration(write_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("1 hour and 30 minutes", "write 1h30m"),
        ("PT1H30M", "write 1h30m"),
        ("2w", "write 14d"),
        ("1:30:00", "write 1h30m0s"),
        ("3 months", "write days"),
        ("soon", "500ms, 30s, 1h30m or 7d"),
        ("", "500ms, 30s, 1h30m or 7d"),
    ],
)
def test_invalid_duration_is_rejected_with_a_suggestion(text: str, remedy: str) -> None:
    """The message contains the right spelling, or examples."""
    with pytest.raises(UnitError, match=remedy):
        read_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("10MB", 10_000_000), ("2GiB", 2 << 30), ("512B", 512), ("1.5KB", 1500)]
)
def test_sizes(text: str, size: int) -> None:
    """MB is a power of 1000, MiB a power of 1024."""
    assert read_size(text) == size
