"""HTTP dates (RFC 9110, 5.6.7), and the dates of RFC 5322 and JavaScript."""

from __future__ import annotations

import pytest

from scrapeq.expression.http_date import http_date_s

NOV_1994_S = 784_111_777  # the example of RFC 9110
NEW_YEAR_S = 1_704_067_200  # 2024-01-01
NOW_S = 1_795_500_000.0  # 2026-11-24


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "06 Nov 1994 08:49:37 GMT",
        "Mon, 06 Nov 1994 08:49:37 GMT",  # a wrong weekday
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 6 Nov 94 08:49:37 GMT",
        "Sun, 06 November 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 09:49:37 +0100",
        "Sun, 06 Nov 1994 09:49:37 +01:00",
        "Sun, 06 Nov 1994 03:49:37 EST",
        "Sun, 06 Nov 1994 08:49:37 +0000 (UTC)",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun Nov 06 1994 09:49:37 GMT+0100 (Central European Standard Time)",
        "sun, 06 nov 1994 08:49:37 gmt",
    ],
)
def test_every_form_gives_the_same_time(text: str) -> None:
    """The time is the same with and without a clock for two-digit years."""
    assert http_date_s(text, NOW_S) == http_date_s(text) == NOV_1994_S


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "tomorrow",
        "Wed, 31 Feb 2027 06:00:00 GMT",
        "Tue, 24 Nov 2026 25:00:00 GMT",
        "Tue, 24 Nov 2026 06:00:61 GMT",
        "Tue, 24 Nov 99999 06:00:00 GMT",
        "Tue, 24 Foo 2026 06:00:00 GMT",
        "Tue, 24 Nov 2026 06:00:00 +2500",
        "Tue, 24 Nov 2026 06:00:00 GMT, Tue, 24 Nov 2026 06:00:00 GMT",
        "2026-11-24T06:00:00Z",
    ],
)
def test_other_text_is_not_a_date(text: str) -> None:
    """The result is None instead of a guess."""
    assert http_date_s(text, NOW_S) is None
    assert http_date_s(text, any_zone=True) is None


@pytest.mark.parametrize(("year", "expected"), [("24", 2024), ("76", 2076), ("77", 1977), ("99", 1999)])
def test_a_two_digit_year_is_at_most_fifty_years_ahead_of_the_clock(year: str, expected: int) -> None:
    """RFC 9110, 5.6.7, requires this."""
    date = http_date_s(f"Monday, 01-Jan-{year} 00:00:00 GMT", NOW_S)
    assert date is not None and date == http_date_s(f"Mon, 01 Jan {expected} 00:00:00 GMT")


def test_an_unknown_zone_is_utc_only_where_the_caller_says_so() -> None:
    """A response header must not be read as an earlier time; for a record RFC 5322, 4.3, holds."""
    assert http_date_s("Mon, 01 Jan 2024 00:00:00 CEST", NOW_S) is None
    assert http_date_s("Mon, 01 Jan 2024 00:00:00 CEST", any_zone=True) == NEW_YEAR_S


def test_a_leap_second_is_legal() -> None:
    """It is read as the second after :59."""
    assert http_date_s("Sun, 31 Dec 2023 23:59:60 GMT") == NEW_YEAR_S
