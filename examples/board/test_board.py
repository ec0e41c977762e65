"""Tests of board.yaml and its hooks, without a network: `pytest test_board.py`."""

from pathlib import Path
from typing import Any

from scrapeq.testing import page_of, scrape_page

FILE = Path(__file__).with_name("board.yaml")


def issue(number: int, state: str, comments: int) -> dict[str, Any]:
    """Return an issue in the format of the API."""
    return {
        "id": 1000 + number,
        "number": number,
        "state": state,
        "title": " Title ",
        "updated_at": "2024-05-01T00:00:00Z",
        "comments": comments,
        "labels": [{"name": "bug"}],
    }


def test_issues_have_labels_and_their_comments_are_requested() -> None:
    """Comments of open issues are requested before those of closed ones; an issue without comments needs no request."""
    page = page_of(
        json=[issue(1, "closed", 2), issue(2, "open", 1), issue(3, "open", 0)],
        headers={"Link": '<https://api.example/repos/octo/site/issues?page=2>; rel="next"'},
    )
    scraped = scrape_page(FILE, "issues", page, priority=50)
    assert scraped.records("issues")[1] == {
        "id": 1002,
        "title": "Title",
        "open": True,
        "touched": "2024-05-01T00:00:00Z",
    }
    assert scraped.records("labels") == [{"name": "bug"}] * 3
    ranked = sorted(scraped.follow_ups, key=lambda one: -one.priority)
    assert [one.url.rpartition("/issues/")[2] for one in ranked] == ["2/comments", "1/comments"]
    assert scraped.next_page is not None and scraped.next_page.url.endswith("?page=2")


def test_comments_are_shortened_and_comments_of_bots_are_dropped() -> None:
    """Each comment has the number of its issue."""
    comments = [
        {"id": 1, "user": {"login": "ada"}, "body": "one two three four five six seven eight nine"},
        {"id": 2, "user": {"login": "ci[bot]"}, "body": "built"},
    ]
    scraped = scrape_page(FILE, "comments", page_of(json=comments), parent={"number": 7})
    assert scraped.records() == [
        {"id": 1, "issue": 7, "author": "ada", "text": "one two three four five six seven eight …"}
    ]
