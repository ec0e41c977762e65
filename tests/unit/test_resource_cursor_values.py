"""Cursor values: comparing them, and shifting and formatting times."""

from __future__ import annotations

from typing import Any

import pytest

from scrapeq.resource.cursor_values import higher, shifted, time_like, value_like

NOON_S = 1714564800.75  # 2024-05-01T12:00:00.75Z
FORMS: list[tuple[Any, Any, Any]] = [  # a value, ten minutes earlier, NOON_S in its form
    ("2024-01-01", "2023-12-31", "2024-05-01"),
    ("2024-01-01T00:00:00Z", "2023-12-31T23:50:00Z", "2024-05-01T12:00:00Z"),
    ("2024-01-01T00:00:00.123Z", "2023-12-31T23:50:00.123Z", "2024-05-01T12:00:00.750Z"),
    ("2024-01-01T00:00:00,5Z", "2023-12-31T23:50:00,5Z", "2024-05-01T12:00:00,7Z"),
    (
        "2024-01-01T00:00:00.123456789+02:00",
        "2023-12-31T23:50:00.123456000+02:00",
        "2024-05-01T14:00:00.750000000+02:00",
    ),
    ("2024-01-01 00:00:00", "2023-12-31 23:50:00", "2024-05-01 12:00:00"),
    ("2024-01-01 00:00 UTC", "2023-12-31 23:50 UTC", "2024-05-01 12:00 UTC"),
    ("2024-01-01T00:00-0530", "2023-12-31T23:50-0530", "2024-05-01T06:30-0530"),
    (1704067200, 1704066600, 1714564800),
    (1704067200.5, 1704066600.5, 1714564800.75),
    (1704067200000, 1704066600000, 1714564800750),
    ("1704067200", "1704066600", "1714564800"),
    ("1512085950.000216", "1512085350.000216", "1714564800.750000"),
    ("1704067200123456", "1704066600123456", "1714564800750000"),
    (1704067200123456789, 1704066600123456789, 1714564800750000000),
    ("20240101", "20231231", "20240501"),
    ("20240101000000", "20231231235000", "20240501120000"),
    ("Mon, 01 Jan 2024 00:00:00 GMT", "Sun, 31 Dec 2023 23:50:00 GMT", "Wed, 01 May 2024 12:00:00 GMT"),
    ("0", "0", "1714564800"),  # few servers accept times before 1970
    ("0001-01-01", "0001-01-01", "2024-05-01"),
]


@pytest.mark.parametrize(("value", "earlier", "noon"), FORMS)
def test_a_time_keeps_its_form(value: Any, earlier: Any, noon: Any) -> None:
    """Covers a time that a lookback shifts back, and the end of a window."""
    assert shifted(value, -600.0) == earlier
    assert type(shifted(value, -600.0)) is type(value)
    assert time_like(NOON_S, value) == noon
    assert shifted(value, 0.0) is value


@pytest.mark.parametrize(
    "value", ["v10", "", "2024-02-30", "x" * 100, None, True, [1], {"a": 1}, float("nan")]
)
def test_other_values_stay_as_they_are(value: Any) -> None:
    """They are never shifted, and times are not formatted like them."""
    assert shifted(value, -600.0) is value
    assert time_like(NOON_S, value) is None


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (9, 10),
        ("9", "10"),
        (9, "10"),
        ("2024-01-01", "2024-01-01T00:00:01Z"),
        ("2024-01-01T02:00:00+02:00", "2024-01-01T00:30:00Z"),
        ("Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"),
        ("2024-01-01T00:00:00.123456788Z", "2024-01-01T00:00:00.123456789Z"),
        (9007199254740992, 9007199254740993),
        ("v1", "v2"),
        (None, 0),
        ({"a": 1}, "x"),
        (True, 1),
        ("", "a"),
    ],
)
def test_the_higher_of_two_values_is_chosen(low: Any, high: Any) -> None:
    """Values are compared as numbers or times if both are, else as text; null and other types are the lowest."""
    assert higher(low, high) is high
    assert higher(high, low) is high


def test_equal_values_keep_the_current_spelling() -> None:
    """Covers one time in two spellings, and two missing values."""
    assert higher("2024-01-01T02:00:00+02:00", "2024-01-01T00:00:00Z") == "2024-01-01T02:00:00+02:00"
    assert higher(None, None) is None
    assert higher(True, [1]) is None


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        ("2024-05-01T12:00:00Z", "2024-01-01", "2024-05-01"),
        ("2024-05-01T10:00:00.000Z", 1704067200000, 1714557600000),
        ("2024-05-01T10:00:00.5Z", 1704067200, 1714557600),
        ("2024-05-01T10:00:00.5Z", 1704067200000000, 1714557600500000),
        ("2024-05-01T10:00:00Z", "1704067200", "1714557600"),
        ("2024-05-01T10:00:00.123456Z", "2024-01-01T00:00:00Z", "2024-05-01T10:00:00Z"),
        ("2024-05-01T10:00:00+02:00", "2024-01-01T00:00:00Z", "2024-05-01T08:00:00Z"),
        ("2024-05-01T10:00:00Z", "2024-01-01T00:00:00+02:00", "2024-05-01T12:00:00+02:00"),
        ("2024-05-01T10:00:00Z", "2024-01-01 00:00", "2024-05-01 10:00"),
        ("2024-05-01T10:00:00Z", "Mon, 01 Jan 2024 00:00:00 GMT", "Wed, 01 May 2024 10:00:00 GMT"),
        ("2024-05-01T10:00:00Z", "20240101", "20240501"),
        ("2024-05-01T10:00:00Z", 20240101, 20240501),
        # the earlier of the two days or clocks, since the server may mean either
        ("2024-05-01T23:30:00-05:00", "2024-01-01", "2024-05-01"),
        ("2024-05-01T01:00:00+05:00", "2024-01-01", "2024-04-30"),
        ("2024-05-01T01:00:00+05:00", "2024-01-01T00:00:00", "2024-04-30T20:00:00"),
        ("2024-05-01T01:00:00-05:00", "2024-01-01T00:00:00", "2024-05-01T01:00:00"),
        (1704067200, "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        (1714557600, 1704067200000, 1714557600000),
        (1714557600500, 1704067200, 1714557600),
        ("1714557600", 1704067200, 1714557600),
        (1714557600, "1704067200", "1714557600"),
        ("1714557600.25", "1704067200", "1714557600"),
        ("2024-05-01", 0, 1714521600),
        (1704067200000, 0, 1704067200000),
        ("1704067200.000216", "0", "1704067200.000216"),
        ("17", 0, 17),
        (17, "0", "17"),
        (17, 0, 17),
        ("v10", "2024-01-01", "v10"),
        ("2024-05-01", "v10", "2024-05-01"),
        (None, "2024-01-01", None),
    ],
)
def test_a_cursor_takes_the_form_of_the_initial_value(value: Any, like: Any, expected: Any) -> None:
    """Rounded down, so that nothing is missed; numbers that are not times keep their value."""
    found = value_like(value, like)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1704067200000, "2024-05-01T10:00:00Z"),
        ("2024-05-01T10:00:00Z", 1714557600001),
        (1704067200, 1704067200001),
        ("20240501", "2024-05-02"),
        ("20240501", "20240501120000"),
        (99_999_999_999, 100_000_000_001),
        (1714557600, 253402214400),
    ],
)
def test_times_in_two_forms_compare_as_times(low: Any, high: Any) -> None:
    """Numbers of two units compare as times only where both are probable ones."""
    assert higher(low, high) is high
    assert higher(high, low) is high
