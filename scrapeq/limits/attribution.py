"""Map a response to the limit instances that it closes, or whose budget, rate or cost it reports. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from scrapeq.errors import FetchError
from scrapeq.limit import of_credential
from scrapeq.limits.partition import IMPLICIT
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.limits.weights import response_cost
from scrapeq.page import Page
from scrapeq.plan import LimitRule, ResponseAction
from scrapeq.responses.observation import Reported
from scrapeq.responses.outcome import Outcome
from scrapeq.task import WEIGHT_MAX, Group

WIDE_SCOPES = frozenset({"host", "token", "all"})
_WIDER_THAN_TOKEN = ("host", "all")


def scopes_of(actions: Iterable[ResponseAction]) -> frozenset[str]:
    """Return the scopes wider than a limit that refusals of a plan may close."""
    return frozenset(one.scope for one in actions if one.action == "rate_limited") & WIDE_SCOPES


def closed_by(group: Group, scope: str, credential: str = "", credentials: Sequence[str] = ()) -> list[str]:
    """
    Return the limit instances of a group that a refusal of this scope closes; empty: only the task waits.

    With a pool of credentials, these are the instances of the refused credential; in a wider scope those of all.

    Args:
        group: The request's group.
        scope: Of the refusal: task, limit, host, token or all.
        credential: The pool's credential that the request carried; empty: no pool.
        credentials: All credentials of the pool.
    """
    names = _closed_by(group, scope)
    if not credential:
        return names
    affected = credentials if scope in _WIDER_THAN_TOKEN else [credential]
    return list(dict.fromkeys(of_credential(name, one) for name in names for one in affected or [credential]))


def _closed_by(group: Group, scope: str) -> list[str]:
    every = [*group.limits, *([group.private] if group.private else [])]
    if scope == "task":
        return []
    if scope == "limit":
        if group.private:
            return [group.private]
        return [name for name in every if not name.startswith("=")]
    # A wider scope has a limit of its own if the plan can close it (`partition.group_of`).
    named = [name for name in every if name.partition("|")[0] in (scope, f"={scope}")]
    return named or every


def rules_of(group: Group, rules: Sequence[LimitRule]) -> list[LimitRule]:
    """Return the rules whose instances a group shares."""
    if not rules:
        return []
    names = {name.partition("|")[0] for name in (*group.limits, group.private)}
    return [rule for rule in rules if rule.name in names]


def _instances(
    group: Group, outcome: Outcome, rules: Sequence[LimitRule]
) -> list[tuple[str, Reported | None, tuple[tuple[float, float], ...]]]:
    """Return the instances of a group about which a response reported something: (name, budget, rates)."""
    if outcome.rule_observations is None and not outcome.reported and not outcome.rates:
        return []
    names = {
        name.partition("|")[0]: name for name in (*group.limits, *([group.private] if group.private else []))
    }
    if outcome.rule_observations is not None:
        every = [(names.get(one.rule), one) for one in outcome.rule_observations]
        return [(name, one.reported, one.rates) for name, one in every if name is not None]
    by_name = {rule.name: (len(rule.partition_by), index) for index, rule in enumerate(rules)}
    ignoring = {rule.name for rule in rules if rule.observe == "none"}
    observing = [name for name in names if name not in ignoring]
    if not observing:
        return []
    narrowest = max(observing, key=lambda name: by_name.get(name, (0, 0)))
    return [(names[narrowest], outcome.reported, outcome.rates)]


def reported_budgets(
    group: Group,
    outcome: Outcome,
    rules: Sequence[LimitRule] = (),
    *,
    clocks: ServerClocks | None = None,
    sent_s: float = 0.0,
    received_s: float = 0.0,
) -> list[tuple[str, float, float]]:
    """
    Return the budgets that a response reported, each with its limit: (instance, remaining, seconds until the reset).

    If the response was not read separately for each limit, its budget belongs to the narrowest limit that observes
    responses: the one with the most keys in `partition_by`, of several the last in the file. A limit with
    `observe: none` never gets one.

    Args:
        group: The request's group.
        outcome: The outcome of the response.
        rules: The rate limits of the plan.
        clocks: Makes resets in whole seconds exact, for limits without rates: only these send a probe first.
        sent_s: When the request was sent, monotonic seconds.
        answered_s: When the response arrived.
    """
    found = [
        (name, reported) for name, reported, _ in _instances(group, outcome, rules) if reported is not None
    ]
    if clocks is not None:
        rated = {rule.name for rule in rules if rule.rates}
        found = [
            (
                name,
                reported
                if reported.is_wait or name.partition("|")[0] in rated
                else clocks.read(name, reported, sent_s, received_s),
            )
            for name, reported in found
        ]
    return [(name, float(reported.remaining), reported.reset_s) for name, reported in found]


def reported_rates(
    group: Group, outcome: Outcome, rules: Sequence[LimitRule] = ()
) -> list[tuple[str, float, float]]:
    """
    Return the sizes and windows stated without a remaining budget: (instance, limit, seconds).

    Each belongs to a limit as in `reported_budgets`. Of several rates it is the lowest: pacing by it exceeds none.
    """
    return [
        (name, *min(rates, key=lambda rate: rate[0] / rate[1]))
        for name, _, rates in _instances(group, outcome, rules)
        if rates
    ]


def costs_of(
    group: Group,
    outcome: Outcome,
    rules: Sequence[LimitRule],
    *,
    resource: str = "",
    method: str = "GET",
    url: str = "",
    page: Page | None = None,
    error: FetchError | None = None,
    names: Mapping[str, Any] | None = None,
) -> list[tuple[str, float]]:
    """
    Return the real costs of a request that differ from what it was charged: (instance, weight).

    They come from the rules' weights that depend on the response. A cost stated by the response belongs to the
    narrowest limit that observes responses.

    Args:
        group: The request's group.
        outcome: The outcome of the response.
        rules: The rate limits of the plan.
        resource, method, url: The request.
        page: The response; None: there was none.
        error: Why there was none.
        names: Further names for the weights' expressions.
    """
    if outcome.cost is None and not any(rule.weights for rule in rules):
        return []
    instances = {name.partition("|")[0]: name for name in (*group.limits, group.private) if name}
    costs: dict[str, float] = {}
    for rule in rules_of(group, rules):
        cost = response_cost(
            rule, resource=resource, method=method, url=url, page=page, error=error, names=names
        )
        if cost is not None and cost != group.weight(instances[rule.name]):
            costs[instances[rule.name]] = cost
    if outcome.cost is not None and outcome.cost >= 0:
        observing = [one for one in enumerate(rules) if one[1].name in instances and one[1].observe != "none"]
        if observing:
            _, narrowest = max(observing, key=lambda one: (len(one[1].partition_by), one[0]))
            costs[instances[narrowest.name]] = min(outcome.cost, WEIGHT_MAX)
        elif not rules and IMPLICIT.name in instances:
            costs[instances[IMPLICIT.name]] = min(outcome.cost, WEIGHT_MAX)
    return list(costs.items())


class Attribution(NamedTuple):
    """
    The effects of a response on limit instances; times are in seconds.

    Args:
        reported: See `reported_budgets`.
        refused: The instances of `closed_by` with the seconds for which they are closed.
        guessed: Who stated those seconds: 0 the server, 1 scrapeq guessed, 2 the configuration.
        rates: See `reported_rates`.
        costs: See `costs_of`.
    """

    reported: Sequence[tuple[str, float, float]] = ()
    refused: Sequence[tuple[str, float]] = ()
    guessed: int = 0
    rates: Sequence[tuple[str, float, float]] = ()
    costs: Sequence[tuple[str, float]] = ()


NO_ATTRIBUTION = Attribution()


def attribute(
    group: Group,
    outcome: Outcome,
    rules: Sequence[LimitRule],
    *,
    clocks: ServerClocks,
    sent_s: float,
    received_s: float,
    credential: str = "",
    credentials: Sequence[str] = (),
    costs: Sequence[tuple[str, float]] | None = None,
) -> Attribution:
    """
    Return all effects of a response on the limits of its request.

    Args:
        group, outcome, rules, clocks, sent_s, answered_s: See `reported_budgets`.
        credential, credentials: See `closed_by`.
        costs: See `costs_of`; None: only a cost stated by the response, not the rules' weights.
    """
    is_refusal = outcome.action == "rate_limited"
    refused = closed_by(group, outcome.scope, credential, credentials) if is_refusal else []
    if costs is None:
        costs = costs_of(
            group, outcome, [replace(rule, weights=()) if rule.weights else rule for rule in rules]
        )
    has_reports = outcome.rule_observations is not None or outcome.reported or outcome.rates
    if not (is_refusal or costs or has_reports):
        return NO_ATTRIBUTION  # the common case
    return Attribution(
        reported_budgets(group, outcome, rules, clocks=clocks, sent_s=sent_s, received_s=received_s),
        [(name, outcome.wait_s or 0.0) for name in refused],
        outcome.guessed if is_refusal else 0,
        reported_rates(group, outcome, rules),
        costs,
    )
