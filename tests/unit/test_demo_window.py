"""The sample API's fixed window, on a clock that the test sets, and its generated records."""

from __future__ import annotations

import math
from functools import partial

from scrapeq.demo.dataset import REPOSITORIES, Dataset
from scrapeq.demo.server import DEFAULT_LIMIT, DEFAULT_WINDOW_S
from scrapeq.demo.window import FixedWindow


def test_a_window_grants_its_limit_and_advertises_the_rest() -> None:
    """The limit is granted, the next request is refused, and the headers count down."""
    window = FixedWindow(2, 2.0, lambda: 1000.25)
    admissions = [window.take() for _ in range(3)]
    assert [admission.granted for admission in admissions] == [True, True, False]
    assert [admission.headers()["X-RateLimit-Remaining"] for admission in admissions] == ["1", "0", "0"]
    assert "Retry-After" not in admissions[1].headers()
    assert admissions[2].headers()["Retry-After"] == "2"
    assert admissions[2].headers()["X-RateLimit-Reset"] == "1002"


def test_an_advertised_time_is_never_too_early() -> None:
    """A client that returns at the advertised time, or after the advertised wait, finds an open window."""
    for window_s in (0.3, 0.7, 1.0, 2.0, 2.5):
        for start_s in (1000.0, 1000.1, 1000.999, 1001.4):
            for field in ("reset", "retry_after"):
                now = [start_s]
                window = FixedWindow(1, window_s, partial(now.__getitem__, 0))
                window.take()
                refused = window.take()
                assert not refused.granted
                now[0] = float(refused.reset_s) if field == "reset" else start_s + refused.retry_after_s
                assert window.take().granted


def test_a_clock_that_is_set_back_opens_no_window() -> None:
    """A spent window stays spent when the wall clock is set back."""
    now = [1010.0]
    window = FixedWindow(1, 2.0, lambda: now[0])
    assert window.take().granted
    now[0] = 1000.0
    assert not window.take().granted


def test_the_seed_alone_determines_the_records() -> None:
    """The same seed gives the same records, another seed gives others."""
    assert Dataset(1, 0.1).issues("octo", "tools") == Dataset(1, 0.1).issues("octo", "tools")
    assert Dataset(1, 0.1).issues("octo", "tools") != Dataset(2, 0.1).issues("octo", "tools")


def test_comment_counts_are_correct_and_timestamps_are_unique() -> None:
    """An issue has as many comments as it states, and no two issues share a timestamp."""
    data = Dataset(scale=0.2)
    timestamps: list[str] = []
    for repository in REPOSITORIES:
        issues = data.issues(repository.owner, repository.name) or []
        for issue in issues:
            comments = data.comments(repository.owner, repository.name, issue["number"]) or []
            assert len(comments) == issue["comments"]
            assert issue["created_at"] <= issue["updated_at"]
            timestamps.append(issue["updated_at"])
    assert len(set(timestamps)) == len(timestamps) == 160


def test_the_whole_scrape_takes_about_half_a_minute() -> None:
    """In pages of 50, the requests need 15 to 25 windows at the default limit: 30 to 50 seconds."""
    data = Dataset()
    requests = 0
    for repository in REPOSITORIES:
        issues = data.issues(repository.owner, repository.name) or []
        requests += math.ceil(len(issues) / 50)
        requests += sum(math.ceil(issue["comments"] / 50) for issue in issues)
    assert 15 <= requests / DEFAULT_LIMIT <= 25
    assert 30 <= requests / DEFAULT_LIMIT * DEFAULT_WINDOW_S <= 50
