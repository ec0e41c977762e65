"""
One way from a response to its outcome: read it, match it against the rules, attribute it to limits.

The worker, the public `Fetcher`, `scrapeq fetch` and `scrapeq.testing` all use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from scrapeq.errors import FetchError
from scrapeq.limits.attribution import Attribution, attribute, costs_of, rules_of
from scrapeq.limits.consecutive_refusals import ConsecutiveRefusals
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.page import Page
from scrapeq.plan import LimitRule, ResponseAction
from scrapeq.responses.observation import NO_OBSERVATION
from scrapeq.responses.outcome import Outcome, decide
from scrapeq.responses.rule_observations import observe_for_rules
from scrapeq.task import Group


@dataclass(slots=True)
class Exchange:
    """
    One request and what came back: everything that a judgement depends on.

    Args:
        group: The limits of the request; after redirects those of the last hop.
        sent_s, received_s: Monotonic seconds.
        now_s: Unix seconds when the response was received.
        resource, method, url: The request, for rules and actions that match it.
        page: The response; None if there is none.
        error: Why there is no response, or why its body cannot be used.
        cached: The stored page that `page`, a 304, confirms.
        names: Names for expressions: seed, parent, now, host, token and so on.
        actions: Response actions in the order in which they are tried.
        credential: The credential of a pool that granted the request; "" without a pool.
        has_costs: Whether weights that depend on the response apply: to tasks, not to logins or the `Fetcher`.
        polls: How often the task was not ready before.
        can_refresh: Whether the credential can be requested again.
        is_guess: The page was requested without knowing whether it exists: a 404 ends the pagination.
        is_stated_end: A guess after a page that stated the end: a 400, 410, 416 or 422 ends it, too.
        retry_because: Retry whatever the response means, for this reason; "" = judge it.
        refusal_key: Requests under the same key share a count of consecutive refusals; "" = the group's name.
    """

    group: Group
    sent_s: float
    received_s: float
    now_s: float
    resource: str = ""
    method: str = "GET"
    url: str = ""
    page: Page | None = None
    error: FetchError | None = None
    cached: Page | None = None
    names: Mapping[str, Any] = field(default_factory=dict)
    actions: Sequence[ResponseAction] = ()
    credential: str = ""
    has_costs: bool = False
    polls: int = 0
    can_refresh: bool = False
    is_guess: bool = False
    is_stated_end: bool = False
    retry_because: str = ""
    refusal_key: str = ""


class Judgement(NamedTuple):
    """What a response means for its task, and what it did to which limits."""

    outcome: Outcome
    attribution: Attribution


class Judge:
    """
    Judges responses for one process, which remembers consecutive refusals and the clocks of servers.

    Args:
        rules: The rate limits of the plan.
        credentials: The names of a pool's credentials.
    """

    def __init__(self, rules: Sequence[LimitRule] = (), credentials: Sequence[str] = ()) -> None:
        self.rules = rules
        self._credentials = credentials
        self.refusals = ConsecutiveRefusals()
        self.clocks = ServerClocks()

    def judge(self, exchange: Exchange) -> Judgement:
        """Return the outcome of an exchange and its effect on limits; count it if it is a refusal."""
        page = exchange.page
        if page is None:
            observation, rule_observations = NO_OBSERVATION, None
        else:
            rules = rules_of(exchange.group, self.rules)
            observation, rule_observations = observe_for_rules(page, exchange.now_s, rules, exchange.names)
        key = exchange.refusal_key or exchange.group.name
        outcome = decide(
            exchange.actions,
            resource=exchange.resource,
            method=exchange.method,
            url=exchange.url,
            page=exchange.cached or page,
            error=exchange.error,
            observation=observation,
            refusals_in_a_row=self.refusals.count_with(key, exchange.sent_s),
            names=exchange.names,
            rule_observations=rule_observations,
            polls=exchange.polls,
            can_refresh=exchange.can_refresh,
            not_modified=page if exchange.cached is not None else None,
            is_guess=exchange.is_guess,
            is_stated_end=exchange.is_stated_end,
        )
        if exchange.retry_because:
            outcome = replace(outcome, action="retry", message=exchange.retry_because)
        return Judgement(outcome, self.attribute(outcome, exchange))

    def attribute(self, outcome: Outcome, exchange: Exchange) -> Attribution:
        """Return what an outcome did to which limits; count it if it is a refusal."""
        group, key = exchange.group, exchange.refusal_key or exchange.group.name
        if outcome.action == "rate_limited":
            count = self.refusals.count_with(key, exchange.sent_s)
            self.refusals.refused(key, count, exchange.received_s)
        elif exchange.error is None:
            self.refusals.succeeded(key)
        costs = None
        if exchange.has_costs:
            costs = costs_of(
                group,
                outcome,
                self.rules,
                resource=exchange.resource,
                method=exchange.method,
                url=exchange.url,
                page=exchange.page,
                error=exchange.error,
                names=exchange.names,
            )
        return attribute(
            group,
            outcome,
            self.rules,
            clocks=self.clocks,
            sent_s=exchange.sent_s,
            received_s=exchange.received_s,
            credential=exchange.credential,
            credentials=self._credentials,
            costs=costs,
        )
