"""The table of built-in actions in docs/reference/response-actions.md agrees with the code."""

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
REPORTED_S = 7.0
RETRY_AFTER = ("Retry-After", "7")
NOTHING_LEFT = (("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "7"))

ERRORS = {
    "timeout": (errors.DeadlineExceeded("x"),),
    "connection": (errors.ConnectionFailed("x"),),
    "bad_answer, truncated": (errors.Truncated("x"),),
    "bad_answer, in the body of a 2xx": (errors.BadResponse("x"),),
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
    """Return the rows of the table of built-in actions."""
    table = PAGE.read_text("utf-8").partition("## Built in")[2].partition("##")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(first, second, third, fourth) for first, second, third, fourth in cells]


def built_in(
    status: int,
    *headers: tuple[str, str],
    can_refresh: bool = False,
    observation: Observation | None = None,
) -> Outcome:
    """Return the outcome without configured actions."""
    page = Page("https://api.example/a", status, headers, b"")
    observation = observation or observe(status, headers, 1795500000.0)
    return decide((), page=page, observation=observation, can_refresh=can_refresh)


def outcomes(response: str) -> Iterator[Outcome]:
    """Yield the outcomes of all responses that the first cell of a row describes."""
    if response.startswith("`exception:"):
        name = response.replace("`", "").removeprefix("exception: ")
        for error in ERRORS[name]:
            assert exception_kind(error) == name.partition(",")[0]
            page = Page("https://api.example/a", 200, (), b"{") if name.endswith("2xx") else None
            yield decide((), page=page, error=error, observation=NO_OBSERVATION)
        return
    if response.startswith("any status that a preset"):
        yield built_in(200, observation=Observation(refused=True, wait_s=REPORTED_S, scope="host"))
        yield built_in(200, observation=Observation(refused=True))
        return
    if response.startswith("404 for a guessed page"):
        yield decide(
            (), page=Page("https://api.example/a", 404, (), b""), observation=NO_OBSERVATION, is_guess=True
        )
        return
    headers: tuple[tuple[str, str], ...] = ()
    statuses, can_refresh = response, False
    for end, added in ((" with Retry-After", (RETRY_AFTER,)), (" with nothing remaining", NOTHING_LEFT)):
        if statuses.endswith(end):
            statuses, headers = statuses.removesuffix(end), added
    if statuses.startswith("401"):
        can_refresh = "refreshable" in statuses
        statuses = "401"
    statuses = statuses.removesuffix(" that cannot be followed")
    for status in STATUSES.get(statuses) or map(int, statuses.split(", ")):
        yield built_in(status, *headers, can_refresh=can_refresh)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_row_agrees_with_the_code(row: tuple[str, str, str, str]) -> None:
    """Compares action, scope and wait of every response that the row describes."""
    response, action, scope, wait = row
    found = list(outcomes(response))
    assert found
    for outcome in found:
        if response == "304":
            assert outcome.action == "ignore"  # nothing is cached here
            continue
        assert outcome.action == action, response
        if action == "rate_limited":
            assert outcome.scope == scope or scope == "from the preset, or limit"
            reported = outcome.wait_s == REPORTED_S
            assert reported or (wait == "reported, or backoff" and outcome.wait_s == BACKOFF_BASE_S)
        else:
            assert outcome.wait_s is None  # the queue computes the backoff, if there is one
    if wait == "reported, or backoff" and action == "retry":
        assert built_in(500, RETRY_AFTER).wait_s == REPORTED_S


def test_every_error_has_a_row() -> None:
    """Each kind of error that has an outcome is in the table."""
    named = {
        response.replace("`", "").removeprefix("exception: ")
        for response, *_ in rows()
        if "exception" in response
    }
    assert named == set(ERRORS)


def test_a_304_with_a_cached_response_is_a_success() -> None:
    """A Retry-After of the 304 does not change that."""
    cached, not_modified = Page("https://a/", 200, (), b"{}"), Page("https://a/", 304, (RETRY_AFTER,), b"")
    observation = observe(304, not_modified.headers, 1795500000.0)
    outcome = decide((), page=cached, not_modified=not_modified, observation=observation)
    assert outcome.action == "success"


def test_the_page_has_the_backoff_of_the_code() -> None:
    """The page states the first and the longest wait."""
    text = PAGE.read_text("utf-8")
    assert (BACKOFF_BASE_S, BACKOFF_MAX_S) == (1.0, 300.0)
    assert re.search(r"1 s, 2 s, 4 s … up to 5 minutes", text)
