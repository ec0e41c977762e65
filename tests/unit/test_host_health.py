"""Failures of a host are reported once, at once, in the server's or the system's words, and not as a rate limit."""

from __future__ import annotations

import orjson
import pytest

from scrapeq.cli.progress_lines import waiting_for
from scrapeq.errors import BadResponse, ConnectionFailed, DeadlineExceeded
from scrapeq.inspect.limit_views import view_of
from scrapeq.page import Page
from scrapeq.protocols import Snapshot
from scrapeq.queue import LimitState
from scrapeq.responses.own_words import own_words
from scrapeq.worker.host_health import HostHealth

HOST = "api.test:8080"
REFUSED = ConnectionFailed(
    "GET http://api.test:8080/a?b=c: cannot connect to api.test:8080: Connection refused"
)


def page(status: int, body: bytes = b"", *headers: tuple[str, str]) -> Page:
    return Page(f"http://{HOST}/a", status, headers, body)


def test_the_first_failure_of_each_kind_is_an_event() -> None:
    """Once for each host and reason; a response clears the host."""
    hosts = HostHealth()
    assert (
        hosts.note(HOST, None, REFUSED, "trying again") == f"host   {HOST}: Connection refused; trying again"
    )
    assert hosts.note(HOST, None, REFUSED, "trying again") == ""
    late = DeadlineExceeded("GET http://api.test:8080/a: no complete response within 2 s")
    assert hosts.note(HOST, None, late, "x") == f"host   {HOST}: no complete response within 2 s; x"
    assert hosts.changed.is_set()
    assert hosts.take() == {HOST: "Connection refused"}
    assert hosts.take() == {}
    assert hosts.note(HOST, page(200), None, "") == ""
    assert hosts.take() == {HOST: ""}


def test_a_response_that_violates_http_is_a_response() -> None:
    """The host answers, whatever it says."""
    hosts = HostHealth()
    assert hosts.note(HOST, None, BadResponse("GET http://api.test/: bad chunk"), "") == ""
    assert hosts.take() == {}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "Bad credentials", "documentation_url": "https://x"}, "Bad credentials"),
        ({"error": "invalid_token", "error_description": "The token\n expired"}, "The token expired"),
        ({"error": {"code": 401, "message": "No key"}}, "No key"),
        ({"errors": [{"detail": "Sign in"}]}, "Sign in"),
        ({"errors": ["Sign in"]}, "Sign in"),
        (b"<html><title>Login \n required</title><p>x</p></html>", "Login required"),
        (b"Token missing", "Token missing"),
        (b"", "The access token expired"),
        ({"status": 401}, "The access token expired"),
        ({"message": "x" * 300}, "x" * 200 + "…"),
    ],
)
def test_a_401_is_reported_in_the_servers_words(body: object, words: str) -> None:
    """From the body, else from WWW-Authenticate."""
    challenge = (
        "WWW-Authenticate",
        'Bearer error="invalid_token", error_description="The access token expired"',
    )
    response = page(401, body if isinstance(body, bytes) else orjson.dumps(body), challenge)
    assert own_words(response) == words
    hosts = HostHealth()
    assert hosts.note(HOST, response, None, "") == f"host   {HOST}: 401 Unauthorized: {words}"
    assert hosts.note(HOST, response, None, "") == ""


def test_the_limit_of_a_silent_host_is_not_shown_as_closed() -> None:
    """A refusal by the server is still shown as one."""
    down = {HOST: "Connection refused"}
    state = LimitState(
        name=f"default|{HOST},",
        parked_s=0.0,
        paused=False,
        in_flight=0.0,
        probing=False,
        remaining=None,
        reset_s=0.0,
        cap=1,
        consecutive_refusals=0,
        learned=None,
        in_trial=False,
        source="",
        opens_s=2.0,
        used=0.0,
    )
    view = view_of(state, down)
    assert (view.state, view.why) == ("down", "no response: Connection refused")
    assert view_of(state).state != "down"
    snapshot = Snapshot("t", "waiting", 1.0, ready=1, limits=(view,), down=down)
    assert waiting_for(snapshot, 0.0).startswith(
        f"for {HOST}, which does not answer: Connection refused, next try at"
    )
    delayed = Snapshot("t", "waiting", 1.0, delayed=1, down=down)
    assert waiting_for(delayed, 0.0) == f"until a task is due; {HOST} does not answer"
