"""The table of built-in meanings in docs/reference/response-actions.md, row by row against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrapeq import errors
from scrapeq.page import Page
from scrapeq.responses.match import exception_kind
from scrapeq.responses.observation import NO_OBSERVATION, Observation, observe
from scrapeq.responses.outcome import BACKOFF_BASE_S, BACKOFF_MAX_S, Outcome, decide

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "response-actions.md"
TOLD_S = 7.0
RETRY_AFTER = ("Retry-After", "7")
NOTHING_LEFT = (("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "7"))

ERRORS = {
    "timeout": (errors.DeadlineExceeded("x"),),
    "connection": (errors.ConnectionFailed("x"),),
    "bad_answer, truncated": (errors.Truncated("x"),),
    "bad_answer, any other": (errors.BadResponse("x"),),
    "too_large": (errors.BodyTooLarge("x"),),
    "redirects": (errors.TooManyRedirects("x"),),
    "blocked": (errors.Blocked("x"),),
    "auth, rejected permanently": (errors.AuthFailed("x", final=True),),
    "auth, any other": (errors.AuthFailed("x"),),
}
STATUSES = {
    "2xx": (200, 201, 202, 204, 299),
    "304": (304,),
    "3xx": (300, 302, 307),
    "4xx, any other": (400, 402, 404, 405, 406, 409, 410, 422, 451, 499),
    "5xx": (500, 501, 502, 503, 504, 599),
}


def rows() -> list[tuple[str, str, str, str]]:
    """The first table of the page."""
    table = PAGE.read_text("utf-8").partition("## Built in")[2].partition("##")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(first, second, third, fourth) for first, second, third, fourth in cells]


def meaning(
    status: int, *headers: tuple[str, str], can_refresh: bool = False, seen: Observation | None = None
) -> Outcome:
    """What is built in."""
    page = Page("https://api.example/a", status, headers, b"")
    return decide(
        (), page=page, observation=seen or observe(status, headers, 1795500000.0), can_refresh=can_refresh
    )


def outcomes(answer: str) -> Iterator[Outcome]:
    """All that a row speaks of."""
    if answer.startswith("`exception:"):
        name = answer.replace("`", "").removeprefix("exception: ")
        for error in ERRORS[name]:
            assert exception_kind(error) == name.partition(",")[0]
            yield decide((), error=error, observation=NO_OBSERVATION)
        return
    if answer.startswith("any status that a preset"):
        yield meaning(200, seen=Observation(refused=True, wait_s=TOLD_S, scope="host"))
        yield meaning(200, seen=Observation(refused=True))
        return
    if answer.startswith("404 for a guessed page"):
        yield decide(
            (), page=Page("https://api.example/a", 404, (), b""), observation=NO_OBSERVATION, is_guess=True
        )
        return
    headers: tuple[tuple[str, str], ...] = ()
    said, can_refresh = answer, False
    for end, added in ((" with Retry-After", (RETRY_AFTER,)), (" with nothing remaining", NOTHING_LEFT)):
        if said.endswith(end):
            said, headers = said.removesuffix(end), added
    if said.startswith("401"):
        can_refresh = "refreshable" in said
        said = "401"
    said = said.removesuffix(" that cannot be followed")
    for status in STATUSES.get(said) or map(int, said.split(", ")):
        yield meaning(status, *headers, can_refresh=can_refresh)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_row_is_what_the_code_does(row: tuple[str, str, str, str]) -> None:
    """Action, scope and wait of every answer that the row speaks of."""
    answer, action, scope, wait = row
    found = list(outcomes(answer))
    assert found
    for outcome in found:
        if answer == "304":
            assert outcome.action == "ignore"  # nothing is kept here
            continue
        assert outcome.action == action, answer
        if action == "rate_limited":
            assert outcome.scope == scope or scope == "from the preset, or limit"
            reported = outcome.wait_s == TOLD_S
            assert reported or (wait == "reported, or backoff" and outcome.wait_s == BACKOFF_BASE_S)
        else:
            assert outcome.wait_s is None  # the queue's own, or none
    if wait == "reported, or backoff" and action == "retry":
        assert meaning(500, RETRY_AFTER).wait_s == TOLD_S


def test_every_error_has_a_row() -> None:
    """None is left out."""
    named = {
        answer.replace("`", "").removeprefix("exception: ") for answer, *_ in rows() if "exception" in answer
    }
    assert named == set(ERRORS)


def test_a_304_stands_for_what_was_kept() -> None:
    """With the kept answer it is a success, whatever the 304 says beside."""
    page, reported = Page("https://a/", 200, (), b"{}"), Page("https://a/", 304, (RETRY_AFTER,), b"")
    seen = observe(304, reported.headers, 1795500000.0)
    assert decide((), page=page, not_modified=reported, observation=seen).action == "success"


def test_the_page_names_the_constants() -> None:
    """Its waits are those of the code."""
    text = PAGE.read_text("utf-8")
    assert (BACKOFF_BASE_S, BACKOFF_MAX_S) == (1.0, 300.0)
    assert re.search(r"1 s, 2 s, 4 s … up to 5 minutes", text)
