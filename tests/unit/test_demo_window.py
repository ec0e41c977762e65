"""The sample API's fixed window, on a clock that the test holds."""

from __future__ import annotations

import math

from scrapeq.demo.dataset import REPOSITORIES, Dataset
from scrapeq.demo.server import DEFAULT_LIMIT, DEFAULT_WINDOW_S
from scrapeq.demo.window import FixedWindow


def test_a_window_grants_its_limit_and_tells_the_rest() -> None:
    """The limit is granted, then refused, and the headers count down."""
    window = FixedWindow(2, 2.0, lambda: 1000.25)
    reported = [window.take() for _ in range(3)]
    assert [verdict.granted for verdict in reported] == [True, True, False]
    assert [verdict.headers()["X-RateLimit-Remaining"] for verdict in reported] == ["1", "0", "0"]
    assert "Retry-After" not in reported[1].headers()
    assert reported[2].headers()["Retry-After"] == "2"
    assert reported[2].headers()["X-RateLimit-Reset"] == "1002"


def test_what_is_told_is_never_too_early() -> None:
    """Whoever comes back at the told time, or after the told wait, meets an open window."""
    for window_s in (0.3, 0.7, 1.0, 2.0, 2.5):
        for start_s in (1000.0, 1000.1, 1000.999, 1001.4):
            for field in ("reset", "retry_after"):
                now = [start_s]
                window = FixedWindow(1, window_s, lambda now=now: now[0])  # type: ignore[misc]
                window.take()
                refused = window.take()
                assert not refused.granted
                now[0] = float(refused.reset_s) if field == "reset" else start_s + refused.retry_after_s
                assert window.take().granted


def test_a_clock_that_steps_back_opens_nothing() -> None:
    """A window that was used up stays so when the wall clock is set back."""
    now = [1010.0]
    window = FixedWindow(1, 2.0, lambda: now[0])
    assert window.take().granted
    now[0] = 1000.0
    assert not window.take().granted


def test_the_records_come_from_the_seed_alone() -> None:
    """The same seed gives the same records, another seed others."""
    assert Dataset(1, 0.1).issues("octo", "tools") == Dataset(1, 0.1).issues("octo", "tools")
    assert Dataset(1, 0.1).issues("octo", "tools") != Dataset(2, 0.1).issues("octo", "tools")


def test_comment_counts_are_true_and_stamps_are_unique() -> None:
    """An issue has as many comments as it says, and no two issues share a stamp."""
    data = Dataset(scale=0.2)
    stamps: list[str] = []
    for repository in REPOSITORIES:
        issues = data.issues(repository.owner, repository.name) or []
        for issue in issues:
            comments = data.comments(repository.owner, repository.name, issue["number"]) or []
            assert len(comments) == issue["comments"]
            assert issue["created_at"] <= issue["updated_at"]
            stamps.append(issue["updated_at"])
    assert len(set(stamps)) == len(stamps) == 160


def test_the_whole_scrape_fills_half_a_minute() -> None:
    """In pages of 50, the requests need 15 to 25 windows at the limit as it stands: 30 to 50 seconds."""
    data = Dataset()
    requests = 0
    for repository in REPOSITORIES:
        issues = data.issues(repository.owner, repository.name) or []
        requests += math.ceil(len(issues) / 50)
        requests += sum(math.ceil(issue["comments"] / 50) for issue in issues)
    assert 15 <= requests / DEFAULT_LIMIT <= 25
    assert 30 <= requests / DEFAULT_LIMIT * DEFAULT_WINDOW_S <= 50
