"""
Decide what a response means for its task: the first response action that matches, the built-in ones last. Pure.

Built in: 429, 418 and 529 are refusals, and so is what a preset defines as one; 403, 413, 503 and 3xx only with a
Retry-After, 403 also when nothing remains. Other 5xx, 408, 425, time-outs, broken connections and truncated responses
are retried. 401 is refresh_auth if the credential can be renewed, and fail if its renewal was rejected for good. Other
4xx, and responses that a retry would only repeat, are dead letters. A wait is never shorter than Retry-After.
docs/reference/response-actions.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from scrapeq import errors
from scrapeq.backoff import exponential_s
from scrapeq.expression import Expression, as_number, as_text
from scrapeq.expression.scope import response_scope
from scrapeq.page import Page
from scrapeq.plan import Action, Exponential, OnExceed, Plan, ResponseAction
from scrapeq.responses.match import exception_kind, response_matches, status_matches
from scrapeq.responses.observation import REFUSALS, Observation, Reported
from scrapeq.responses.rule_observations import RuleObservation

BACKOFF_BASE_S = 1.0
BACKOFF_MAX_S = 300.0
POLL_MIN_S = 0.1
POLL_BASE_S = 1.0
POLL_MAX_S = 60.0
POLL_MAX_WAIT_S = 3600.0  # total wait of one task, unless the configuration sets one

_REFUSALS_WITH_WAIT = frozenset({403, 413, 503})  # and any 3xx
_RETRIED = frozenset({408, 425})
_NOT_MODIFIED = 304
_REPEATABLE = (
    *(errors.BodyTooLarge, errors.BadResponse, errors.TooManyRedirects, errors.Blocked),
    errors.TlsFailed,
)
_MESSAGE_LENGTH = 500

_PAST_STATED_END = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.GONE,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""Responses to a page behind the end that an earlier page has stated."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What to do with a task after its response.

    Args:
        action: success, ignore or retry (an attempt is charged); rate_limited, poll, refresh_auth or
            reset_pagination (not charged); dead_letter or fail.
        wait_s: rate_limited: how long `scope` is closed. retry: the minimum delay; None = the queue's backoff.
            poll: the delay of the next request.
        scope: task, limit, host, token, all, or the name of a limit.
        message: The reason in one line; "" for a success.
        max_wait_s: `on_exceed` applies to a longer wait (poll: to the total); None = no bound.
        on_exceed: park, dead_letter or stop.
        reported: The budget that the response reported, if any.
        guessed: rate_limited: the response stated no wait, and `wait_s` is our backoff (1) or the configuration's (2).
        rates: (requests, seconds): sizes and windows that the response named without stating what is left.
        cost: What the request cost, where the response states it.
        rule_observations: What the response reported about each limit; None = `reported` and `rates` apply.
        is_past_end: A success without a page: the page sequence was followed until a page did not exist.
        is_declared: A success that a response action declares.
    """

    action: Action
    wait_s: float | None = None
    scope: str = "limit"
    message: str = ""
    max_wait_s: float | None = None
    on_exceed: OnExceed = "park"
    reported: Reported | None = None
    guessed: int = 0
    rates: tuple[tuple[float, float], ...] = ()
    cost: float | None = None
    rule_observations: tuple[RuleObservation, ...] | None = None
    is_past_end: bool = False
    is_declared: bool = False


def actions_for(plan: Plan, resource: str) -> tuple[ResponseAction, ...]:
    """Return the response actions of a resource in the order in which they are tried: its own, then the global ones."""
    return (*plan.resource_actions.get(resource, ()), *plan.response_actions)


def backoff_s(refusals_in_a_row: int, base_s: float = BACKOFF_BASE_S, max_s: float = BACKOFF_MAX_S) -> float:
    """Return a wait that doubles from `base_s` (the first refusal) to `max_s`, in seconds."""
    return exponential_s(refusals_in_a_row, base_s, max_s)


def decide(
    actions: Sequence[ResponseAction],
    *,
    resource: str = "",
    method: str = "GET",
    url: str = "",
    page: Page | None = None,
    error: errors.FetchError | None = None,
    observation: Observation,
    refusals_in_a_row: int = 1,
    names: Mapping[str, Any] | None = None,
    rule_observations: tuple[RuleObservation, ...] | None = None,
    polls: int = 0,
    can_refresh: bool = False,
    not_modified: Page | None = None,
    is_guess: bool = False,
    is_stated_end: bool = False,
) -> Outcome:
    """
    Return what a response, or the error in its place, means for the task.

    Args:
        actions: Response actions in the order in which they are tried (`actions_for`).
        resource, method, url: The request.
        page, error: One of them; both for a response whose body cannot be used. Then only the actions for such errors
            count (`exception`), since the others have been tried.
        observation: What the response says about waiting.
        refusals_in_a_row: Consecutive refusals including this response, if it is one (1 = the first).
        names: More names for expressions: seed, parent, now, host, token and so on.
        rule_observations: What the response reports about each limit (`observe_for_rules`).
        polls: How often the task was not ready before.
        can_refresh: Whether the credential can be renewed.
        not_modified: The 304 that confirmed `page`, a cached response; actions on its status are matched with it.
        is_guess: The page was requested without knowing whether it exists: then a 404 ends the page sequence.
        is_stated_end: A guess after a page that stated the end: then other refusals of the request end it, too.
    """
    extra = dict(names or {})
    extra["retry_after"] = observation.retry_after_s
    extra["rate_limit_reset"] = observation.reset_s
    extra["exception"] = exception_kind(error)
    whole = response_scope(page, **extra) if actions else extra
    for one in actions:
        if page is not None and error is not None and not one.match.exception:
            continue
        scope, response = whole, page
        if not_modified is not None and status_matches(one.match.status, not_modified.status):
            scope, response = response_scope(not_modified, **extra), not_modified
        if response_matches(
            one.match, resource=resource, method=method, url=url, page=response, error=error, scope=scope
        ):
            outcome = _declared(one, scope, response, error, observation, refusals_in_a_row, polls)
            break
    else:
        outcome = _built_in(page, error, observation, refusals_in_a_row, can_refresh)
        if page is not None and error is not None:
            outcome = Outcome("retry", wait_s=observation.wait_s, message=_summary_line(None, error))
        statuses = _PAST_STATED_END if is_stated_end else (HTTPStatus.NOT_FOUND,)
        if is_guess and page is not None and page.status in statuses:
            outcome = Outcome("success", reported=outcome.reported, is_past_end=True)
    if rule_observations is None and not observation.rates and observation.cost is None:
        return outcome  # the usual case
    return replace(
        outcome, rates=observation.rates, cost=observation.cost, rule_observations=rule_observations
    )


def _declared(
    action: ResponseAction,
    scope: Mapping[str, Any],
    page: Page | None,
    error: errors.FetchError | None,
    observation: Observation,
    refusals: int,
    polls: int,
) -> Outcome:
    wait, was_read = _first(action.wait, scope, polls + 1 if action.action == "poll" else refusals)
    guessed = 0 if was_read or _states_wait(observation) else 1 if wait is None else 2
    if action.action == "rate_limited":
        if wait is None:
            wait = _refused_for(observation, refusals)
        else:
            wait = max(wait, observation.retry_after_s or 0.0)
    elif action.action == "retry":
        reported = observation.wait_s
        wait = reported if wait is None else max(wait, reported or 0.0)
    elif action.action == "poll":
        wait = _not_ready_for(wait, observation, polls)
    message = as_text(action.message.render(scope)) if action.message is not None else None
    if not message and action.action not in ("success", "ignore"):
        message = _summary_line(None if error else page, error)
    return Outcome(
        action=action.action,
        wait_s=wait,
        scope=action.scope,
        message=(message or "")[:_MESSAGE_LENGTH],
        max_wait_s=POLL_MAX_WAIT_S
        if action.action == "poll" and action.max_wait_s is None
        else action.max_wait_s,
        on_exceed=action.on_exceed or ("park" if action.action == "rate_limited" else "dead_letter"),
        reported=None if action.action == "poll" and _is_wait(observation) else observation.reported,
        guessed=guessed if action.action == "rate_limited" else 0,
        is_declared=action.action == "success",
    )


def _is_wait(observation: Observation) -> bool:
    """Return whether all that a response reports is a wait, which a poll spends on its task."""
    return observation.reported is not None and observation.reported.is_wait


def _states_wait(observation: Observation) -> bool:
    return observation.wait_s is not None or observation.retry_after_s is not None


def _first(
    terms: Sequence[Expression | float | Exponential], scope: Mapping[str, Any], refusals: int
) -> tuple[float | None, bool]:
    """Return the first term that is a number of seconds, and whether the response states it."""
    for term in terms:
        if isinstance(term, Exponential):
            return backoff_s(refusals, term.base_s, term.max_s), False
        if isinstance(term, Expression):
            value = term.evaluate(scope)
            seconds = None if isinstance(value, bool) else as_number(value)
        else:
            seconds = float(term)
        if seconds is not None and math.isfinite(seconds) and seconds >= 0:
            return float(seconds), isinstance(term, Expression)
    return None, False


def _refused_for(observation: Observation, refusals: int) -> float:
    """
    Return how long a refusal closes a limit.

    This is the stated wait. A refusal of the probe after that wait shows that it was too short (servers round seconds
    down, or state 0), and lengthens it. Without a stated wait our own backoff applies.
    """
    reported = observation.wait_s if observation.wait_s is not None else observation.retry_after_s
    if reported is None:
        return backoff_s(refusals)
    return reported if refusals <= 1 else max(reported, backoff_s(refusals - 1))


def _not_ready_for(wait: float | None, observation: Observation, polls: int) -> float:
    """Return the delay of the next poll: as configured, else Retry-After, else a backoff; at least Retry-After."""
    reported = observation.retry_after_s
    if wait is None and not reported:
        return backoff_s(polls + 1, POLL_BASE_S, POLL_MAX_S)
    return max(wait or 0.0, reported or 0.0, POLL_MIN_S)


def _built_in(
    page: Page | None,
    error: errors.FetchError | None,
    observation: Observation,
    refusals: int,
    can_refresh: bool,
) -> Outcome:
    reported = observation.reported
    if page is None:
        if isinstance(error, errors.AuthFailed) and error.final:
            return Outcome("fail", message=_summary_line(page, error))
        is_repeatable = isinstance(error, _REPEATABLE) and not isinstance(error, errors.Truncated)
        if is_repeatable:
            return Outcome("dead_letter", message=_summary_line(page, error))
        wait_s = error.wait_s if isinstance(error, errors.ConnectionFailed) else None
        return Outcome("retry", wait_s=wait_s, message=_summary_line(page, error))
    status = page.status
    if page.is_unrequested:
        missing = "range" if status == HTTPStatus.PARTIAL_CONTENT else "condition"
        message = f"{_summary_line(page, error)}, though the request had no {missing}"
        return Outcome("retry", wait_s=observation.wait_s, message=message, reported=reported)
    if 200 <= status < 300 and not observation.refused:
        return Outcome("success", reported=reported)
    if status == _NOT_MODIFIED:
        return Outcome("ignore", reported=reported)
    states_wait = observation.retry_after_s is not None
    nothing_left = observation.remaining is not None and observation.remaining <= 0
    if (
        status in REFUSALS
        or observation.refused
        or (states_wait and (status in _REFUSALS_WITH_WAIT or 300 <= status < 400))
        or (status == HTTPStatus.FORBIDDEN and nothing_left)
    ):
        wait = _refused_for(observation, refusals)
        return Outcome(
            "rate_limited",
            wait_s=wait,
            scope=observation.scope or "limit",
            message=_summary_line(page, error),
            reported=reported,
            guessed=0 if _states_wait(observation) else 1,
        )
    if status >= 500 or status in _RETRIED:
        return Outcome(
            "retry", wait_s=observation.wait_s, message=_summary_line(page, error), reported=reported
        )
    if status == HTTPStatus.UNAUTHORIZED and can_refresh:
        return Outcome(
            "refresh_auth", message=_summary_line(page, error), on_exceed="dead_letter", reported=reported
        )
    return Outcome("dead_letter", message=_summary_line(page, error), reported=reported)


def _summary_line(page: Page | None, error: errors.FetchError | None) -> str:
    """Describe a response in one line: `503 Service Unavailable`, or the text of the error."""
    if page is None:
        return str(error or "no response").splitlines()[0][:_MESSAGE_LENGTH]
    try:
        return f"{page.status} {HTTPStatus(page.status).phrase}"
    except ValueError:
        return str(page.status)
