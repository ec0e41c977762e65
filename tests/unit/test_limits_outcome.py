"""The outcome of a response for its task."""

from __future__ import annotations

import pytest

from scrapeq import errors
from scrapeq.expression import Expression, compile_expression, compile_template
from scrapeq.page import Page
from scrapeq.plan import Exponential, Match, Plan, ResponseAction
from scrapeq.plan.limits import Action, OnExceed
from scrapeq.responses.match import exception_kind, host_matches, host_of, path_matches
from scrapeq.responses.observation import NO_OBSERVATION, Observation, Reported, observe
from scrapeq.responses.outcome import POLL_MIN_S, Outcome, actions_for, backoff_s, decide

URL = "https://api.example/issues?page=2"


def outcome_of(
    status: int,
    *headers: tuple[str, str],
    body: bytes = b"",
    actions: tuple[ResponseAction, ...] = (),
    refusals: int = 1,
) -> Outcome:
    """Return the outcome of a response after this many consecutive refusals."""
    page = Page(URL, status, headers, body)
    observation = observe(status, headers, 1795500000.0)
    return decide(
        actions,
        resource="issues",
        url=URL,
        page=page,
        observation=observation,
        refusals_in_a_row=refusals,
    )


@pytest.mark.parametrize(
    ("status", "headers", "action", "wait_s"),
    [
        (200, (), "success", None),
        (200, (("Retry-After", "30"),), "success", None),
        (204, (), "success", None),
        (304, (), "ignore", None),
        (429, (), "rate_limited", 1.0),
        (418, (("Retry-After", "7"),), "rate_limited", 7.0),
        (529, (("Retry-After", "0"),), "rate_limited", 0.0),
        (503, (("Retry-After", "9"),), "rate_limited", 9.0),
        (503, (), "retry", None),
        (403, (("Retry-After", "9"),), "rate_limited", 9.0),
        (403, (("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")), "rate_limited", 60.0),
        (403, (("X-RateLimit-Remaining", "5"), ("X-RateLimit-Reset", "60")), "dead_letter", None),
        (403, (), "dead_letter", None),
        (413, (("Retry-After", "3"),), "rate_limited", 3.0),
        (413, (), "dead_letter", None),
        (302, (("Retry-After", "3"),), "rate_limited", 3.0),
        (302, (), "dead_letter", None),
        (500, (), "retry", None),
        (500, (("Retry-After", "9"),), "retry", 9.0),
        (599, (), "retry", None),
        (408, (), "retry", None),
        (425, (), "retry", None),
        (404, (), "dead_letter", None),
        (401, (), "dead_letter", None),
    ],
)
def test_each_status_has_a_built_in_outcome(
    status: int, headers: tuple[tuple[str, str], ...], action: str, wait_s: float | None
) -> None:
    """The outcome may depend on a stated wait."""
    outcome = outcome_of(status, *headers)
    assert (outcome.action, outcome.wait_s) == (action, wait_s)


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (errors.DeadlineExceeded("30 s are over"), "retry"),
        (errors.ConnectionFailed("reset"), "retry"),
        (errors.TlsFailed("certificate verify failed"), "dead_letter"),
        (errors.Truncated("12 of 20 bytes"), "retry"),
        (errors.BadResponse("no HTTP"), "dead_letter"),
        (errors.BodyTooLarge("1 MB"), "dead_letter"),
        (errors.TooManyRedirects("a loop"), "dead_letter"),
        (errors.Blocked("127.0.0.1"), "dead_letter"),
    ],
)
def test_each_error_has_a_built_in_outcome(error: errors.FetchError, action: str) -> None:
    """Transient errors are retried, others are not; the message is that of the error."""
    outcome = decide((), url=URL, error=error, observation=NO_OBSERVATION)
    assert (outcome.action, outcome.message) == (action, str(error))


def test_the_built_in_backoff_doubles_from_one_second_to_five_minutes() -> None:
    """A refusal without a wait closes for 1, 2, 4 … 300 seconds."""
    assert [outcome_of(429, refusals=n).wait_s for n in (1, 2, 3, 9, 10, 10_000)] == [1, 2, 4, 256, 300, 300]
    assert backoff_s(0) == 1


def test_a_stated_wait_that_was_too_short_is_lengthened() -> None:
    """A server that states 0 and refuses again gets ever longer waits; a wait of one day is obeyed."""
    assert [outcome_of(429, ("Retry-After", "0"), refusals=n).wait_s for n in (1, 2, 3, 4)] == [0, 1, 2, 4]
    assert outcome_of(429, ("Retry-After", "86400"), refusals=5).wait_s == 86400


def test_the_first_matching_action_applies_and_a_resource_takes_precedence_over_the_file() -> None:
    """The order decides, not the precision of the match."""
    own = ResponseAction(Match(status=(404,)), "ignore")
    of_file = ResponseAction(Match(status=("4xx",)), "fail")
    plan = Plan("x", "x.yaml", response_actions=(of_file,), resource_actions={"issues": (own,)})
    assert outcome_of(404, actions=actions_for(plan, "issues")).action == "ignore"
    assert outcome_of(410, actions=actions_for(plan, "issues")).action == "fail"
    assert outcome_of(404, actions=actions_for(plan, "labels")).action == "fail"


def test_an_action_recognizes_a_refusal_in_a_200() -> None:
    """A refusal in a body closes the limit for its Retry-After, else for the first term with a value."""
    limited = ResponseAction(
        Match(when=compile_expression("body.error == 'ratelimited'")),
        "rate_limited",
        scope="token",
        wait=(compile_expression("retry_after"), compile_expression("body.backoff"), 60.0),
        message=compile_template("${status}: ${body.error}"),
        max_wait_s=3600.0,
        on_exceed="stop",
    )
    refused = b'{"error": "ratelimited"}'
    assert outcome_of(200, body=refused, actions=(limited,)) == Outcome(
        "rate_limited", 60.0, "token", "200: ratelimited", 3600.0, "stop", guessed=2
    )
    assert outcome_of(200, ("Retry-After", "5"), body=refused, actions=(limited,)).wait_s == 5
    with_backoff = b'{"error": "ratelimited", "backoff": 2.5}'
    assert outcome_of(200, body=with_backoff, actions=(limited,)).wait_s == 2.5
    assert outcome_of(200, body=b"{}", actions=(limited,)).action == "success"


def test_a_poll_waits_as_stated_or_with_backoff() -> None:
    """The wait is configured, or Retry-After, or grows with each poll; it is never 0 or less than Retry-After."""

    def wait(
        polls: int,
        *headers: tuple[str, str],
        terms: tuple[Expression | float | Exponential, ...] = (),
        body: bytes = b"{}",
    ) -> float:
        action = ResponseAction(Match(status=(202,)), "poll", wait=terms)
        page = Page(URL, 202, headers, body)
        observation = observe(202, headers, 1795500000.0)
        outcome = decide((action,), page=page, observation=observation, refusals_in_a_row=7, polls=polls)
        assert (outcome.action, outcome.max_wait_s, outcome.on_exceed) == ("poll", 3600.0, "dead_letter")
        assert outcome.guessed == 0
        return outcome.wait_s or 0.0

    assert [wait(polls) for polls in (0, 1, 2, 5, 6, 1000)] == [1, 2, 4, 32, 60, 60]
    assert wait(3, ("Retry-After", "9")) == 9
    assert wait(3, ("Retry-After", "9"), terms=(2.0,)) == 9
    assert wait(3, terms=(2.0,)) == 2
    assert wait(3, terms=(0.0,)) == POLL_MIN_S
    assert wait(2, terms=(Exponential(5.0, 60.0),)) == 20
    assert wait(2, terms=(compile_expression("body.in"), 2.0), body=b'{"in": 7}') == 7


@pytest.mark.parametrize(
    ("action", "configured", "on_exceed"),
    [
        ("rate_limited", None, "park"),
        ("rate_limited", "stop", "stop"),
        ("poll", None, "dead_letter"),
        ("poll", "park", "park"),
        ("refresh_auth", None, "dead_letter"),
        ("reset_pagination", "stop", "stop"),
    ],
)
def test_on_exceed_has_a_default_for_each_action(
    action: Action, configured: OnExceed | None, on_exceed: str
) -> None:
    """After `max_wait` a refused task is parked and any other becomes a dead letter, unless configured otherwise."""
    rule = ResponseAction(Match(), action, on_exceed=configured)
    assert outcome_of(400, actions=(rule,)).on_exceed == on_exceed


def test_a_refreshable_credential_is_refreshed() -> None:
    """A 401 with any other credential is a dead letter; a final refusal ends the run."""
    page = Page(URL, 401, (), b"")
    assert decide((), page=page, observation=NO_OBSERVATION, can_refresh=True).action == "refresh_auth"
    assert decide((), page=page, observation=NO_OBSERVATION).action == "dead_letter"
    final = errors.AuthFailed("client is not known", final=True)
    outcome = decide((), error=final, observation=NO_OBSERVATION, can_refresh=True)
    assert (outcome.action, outcome.message) == ("fail", "client is not known")
    assert exception_kind(final) == "auth"


def test_actions_match_the_cached_response_unless_they_name_the_304() -> None:
    """The body of a 304 is null, which must not match an action for a negative body."""
    cached = Page(URL, 200, (), b'{"ok": true}')
    not_modified = Page(URL, 304, (("X-A", "1"),), b"")
    bad = ResponseAction(Match(when=compile_expression("not body.ok")), "dead_letter")
    named = ResponseAction(Match(status=("3xx",), when=compile_expression("header('x-a') == '1'")), "ignore")
    for actions, action in (((bad,), "success"), ((bad, named), "ignore")):
        outcome = decide(actions, page=cached, not_modified=not_modified, observation=NO_OBSERVATION)
        assert outcome.action == action


def test_a_configured_wait_never_undercuts_retry_after() -> None:
    """Retry-After is the minimum."""
    short = ResponseAction(Match(status=(429,)), "rate_limited", wait=(1.0,))
    assert outcome_of(429, ("Retry-After", "30"), actions=(short,)).wait_s == 30
    retry = ResponseAction(Match(status=(404,)), "retry", wait=(1.0,))
    assert outcome_of(404, ("Retry-After", "30"), actions=(retry,)).wait_s == 30


@pytest.mark.parametrize("term", ["null", "'soon'", "true", "-5", "body.missing"])
def test_a_wait_term_that_is_not_a_duration_is_skipped(term: str) -> None:
    """Only a number of seconds counts."""
    action = ResponseAction(Match(status=(429,)), "rate_limited", wait=(compile_expression(term), 8.0))
    assert outcome_of(429, actions=(action,)).wait_s == 8.0


def test_an_exponential_wait_grows_with_the_refusals() -> None:
    """It doubles from its base and stops at its maximum."""
    action = ResponseAction(Match(status=(429,)), "rate_limited", wait=(Exponential(60.0, 200.0),))
    assert [outcome_of(429, actions=(action,), refusals=n).wait_s for n in (1, 2, 3)] == [60, 120, 200]


def test_actions_match_errors_by_their_kind() -> None:
    """A rule for time-outs does not match broken connections."""
    action = ResponseAction(Match(exception=("timeout",)), "ignore")
    late, broken = errors.DeadlineExceeded("late"), errors.ConnectionFailed("broken")
    assert decide((action,), url=URL, error=late, observation=NO_OBSERVATION).action == "ignore"
    assert decide((action,), url=URL, error=broken, observation=NO_OBSERVATION).action == "retry"
    assert exception_kind(errors.Truncated("x")) == "bad_answer"


def test_every_outcome_has_the_reported_budget() -> None:
    """Both successes and refusals report it."""
    headers = (("RateLimit", '"a";r=0;t=4'),)
    assert outcome_of(200, *headers).reported == outcome_of(429, *headers).reported == Reported(0, 4.0)
    assert decide((), url=URL, error=errors.ConnectionFailed("x"), observation=Observation()).reported is None


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("/docs/**", "https://a.example/docs/a/b", True),
        ("/docs/*", "https://a.example/docs/a/b", False),
        ("/docs/*", "https://a.example/docs/a?b=/c", True),
        ("/docs", "https://a.example/docs/", False),
        ("*?print=*", "https://a.example/x?print=1", False),
        ("/*?print=*", "https://a.example/x?print=1", True),
        ("/a.c", "https://a.example/abc", False),
        ("re:^/issues/[0-9]+$", "https://a.example/issues/12", True),
        ("re:^/issues/[0-9]+$", "https://a.example/issues/x", False),
        ("/", "https://a.example", True),
        ("/", "http://[broken", False),
    ],
)
def test_path_patterns(pattern: str, url: str, matches: bool) -> None:
    """`*` matches within a segment, `**` across segments, and a dot matches only a dot."""
    assert path_matches(pattern, url) is matches


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("*.example", "https://API.example./x", True),
        ("*.example", "https://example/x", False),
        ("api.example", "http://api.example:8080/", True),
        ("api.example:8080", "http://api.example:8080/", True),
        ("api.example:8080", "http://api.example/", False),
        (r"re:^(a|b)\.example$", "https://b.example:443", True),
    ],
)
def test_host_patterns(pattern: str, url: str, matches: bool) -> None:
    """Hosts match case-insensitively; a port counts only if the pattern has one."""
    assert host_matches(pattern, host_of(url)) is matches


@pytest.mark.parametrize("status", [400, 404, 410, 416, 422, 401, 403, 500])
def test_a_refused_page_behind_a_stated_end_is_past_the_end(status: int) -> None:
    """The server has said that nothing follows, so a request for more is wrong, not missing."""
    page = Page(URL, status, (), b"")
    outcome = decide((), page=page, observation=NO_OBSERVATION, is_guess=True, is_stated_end=True)
    assert outcome.is_past_end is (status in (400, 404, 410, 416, 422))
    assert not decide((), page=page, observation=NO_OBSERVATION, is_stated_end=True).is_past_end


@pytest.mark.parametrize(
    ("status", "guess", "is_past_end"),
    [(404, True, True), (404, False, False), (403, True, False), (200, True, False)],
)
def test_a_404_for_a_guessed_page_is_past_the_end(status: int, guess: bool, is_past_end: bool) -> None:
    """It ends the pagination, unless an action matches it."""
    page = Page(URL, status, (), b"")
    assert decide((), page=page, observation=NO_OBSERVATION, is_guess=guess).is_past_end is is_past_end
    stated = decide((), page=page, observation=NO_OBSERVATION, is_guess=guess, is_stated_end=guess)
    assert stated.is_past_end is is_past_end
    reported = ResponseAction(Match(status=(404,)), "fail")
    assert not decide((reported,), page=page, observation=NO_OBSERVATION, is_guess=guess).is_past_end
