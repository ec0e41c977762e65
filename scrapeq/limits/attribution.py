"""Whose an answer is: which limit instances of a group it closes, tells what, and has cost how much. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from scrapeq.errors import FetchError
from scrapeq.limit import of_credential
from scrapeq.limits.partition import IMPLICIT
from scrapeq.limits.server_clock import ServerClocks
from scrapeq.limits.weights import settled
from scrapeq.page import Page
from scrapeq.plan import LimitRule, ResponseAction
from scrapeq.responses.observation import Reported
from scrapeq.responses.outcome import Outcome
from scrapeq.task import WEIGHT_MAX, Group

WIDE_SCOPES = frozenset({"host", "token", "all"})
_WIDER = ("host", "all")  # scopes that mean more than the token that was refused


def scopes_of(actions: Iterable[ResponseAction]) -> frozenset[str]:
    """The scopes wider than a limit that refusals of a plan may close."""
    return frozenset(one.scope for one in actions if one.action == "rate_limited") & WIDE_SCOPES


def closed_by(group: Group, scope: str, credential: str = "", credentials: Sequence[str] = ()) -> list[str]:
    """
    The limit instances of a group that a refusal of this scope closes; none: only the task waits.

    Where a pool granted: those of the member whose request was refused; in a wider scope those of all members.
    """
    names = _closed_by(group, scope)
    if not credential:
        return names
    whose = credentials if scope in _WIDER else [credential]
    return list(dict.fromkeys(of_credential(name, one) for name in names for one in whose or [credential]))


def _closed_by(group: Group, scope: str) -> list[str]:
    every = [*group.limits, *([group.private] if group.private else [])]
    if scope == "task":
        return []
    if scope == "limit":
        if group.private:
            return [group.private]
        return [name for name in every if not name.startswith("=")]
    # a scope wider than a limit has a limit of its own, where the plan knows of it (`partition.group_of`)
    named = [name for name in every if name.partition("|")[0] in (scope, f"={scope}")]
    return named or every


def rules_of(group: Group, rules: Sequence[LimitRule]) -> list[LimitRule]:
    """The rules that the limits of a group are of."""
    if not rules:
        return []
    names = {name.partition("|")[0] for name in (*group.limits, group.private)}
    return [rule for rule in rules if rule.name in names]


def _instances(
    group: Group, outcome: Outcome, rules: Sequence[LimitRule]
) -> list[tuple[str, Reported | None, tuple[tuple[float, float], ...]]]:
    """The limit instances of a group that an answer told something, with what it told."""
    if outcome.rule_observations is None and not outcome.reported and not outcome.rates:
        return []
    names = {
        name.partition("|")[0]: name for name in (*group.limits, *([group.private] if group.private else []))
    }
    if outcome.rule_observations is not None:
        every = [(names.get(one.rule), one) for one in outcome.rule_observations]
        return [(name, one.reported, one.rates) for name, one in every if name is not None]
    by_name = {rule.name: (len(rule.partition_by), at) for at, rule in enumerate(rules)}
    deaf = {rule.name for rule in rules if rule.observe == "none"}
    listening = [name for name in names if name not in deaf]
    if not listening:
        return []
    narrowest = max(listening, key=lambda name: by_name.get(name, (0, 0)))
    return [(names[narrowest], outcome.reported, outcome.rates)]


def reported_budgets(
    group: Group,
    outcome: Outcome,
    rules: Sequence[LimitRule] = (),
    *,
    clocks: ServerClocks | None = None,
    sent_s: float = 0.0,
    answered_s: float = 0.0,
) -> list[tuple[str, float, float]]:
    """
    The budgets that an answer told, each for the limit that it is of: (instance, remaining, reset seconds).

    Where the answer was not read for each limit (`limits.listening`), its budget belongs to the narrowest one that
    listens: the one with the most keys in its `partition_by`, of equal ones the last written; with `observe: none` a
    limit never listens.

    Args:
        group: Of the request.
        outcome: Of its answer.
        rules: Of the plan.
        clocks: Makes resets in whole seconds exact, of limits that have no rates: there, a probe goes first.
        sent_s: When the request was sent, monotonic seconds.
        answered_s: When its answer was here.
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
                if name.partition("|")[0] in rated
                else clocks.read(name, reported, sent_s, answered_s),
            )
            for name, reported in found
        ]
    return [(name, float(reported.remaining), reported.reset_s) for name, reported in found]


def reported_rates(
    group: Group, outcome: Outcome, rules: Sequence[LimitRule] = ()
) -> list[tuple[str, float, float]]:
    """
    The size and window that an answer named, without what is left, as in `reported_budgets`: (instance, limit, seconds).

    Of several the lowest rate: paced by it, none of them is exceeded.
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
    What a request has cost the limits that charged it otherwise: (instance, weight).

    By the rules' weights that look at answers; a cost that the answer tells is the narrowest listening limit's.
    """
    if outcome.cost is None and not any(rule.weights for rule in rules):
        return []
    instances = {name.partition("|")[0]: name for name in (*group.limits, group.private) if name}
    costs: dict[str, float] = {}
    for rule in rules_of(group, rules):
        paid = settled(rule, resource=resource, method=method, url=url, page=page, error=error, names=names)
        if paid is not None and paid != group.weight(instances[rule.name]):
            costs[instances[rule.name]] = paid
    if outcome.cost is not None and outcome.cost >= 0:
        listening = [one for one in enumerate(rules) if one[1].name in instances and one[1].observe != "none"]
        if listening:
            _, narrowest = max(listening, key=lambda one: (len(one[1].partition_by), one[0]))
            costs[instances[narrowest.name]] = min(outcome.cost, WEIGHT_MAX)
        elif not rules and IMPLICIT.name in instances:
            costs[instances[IMPLICIT.name]] = min(outcome.cost, WEIGHT_MAX)
    return list(costs.items())


class Attribution(NamedTuple):
    """What an answer did to which limit instances; seconds. See `reported_budgets`, `closed_by`, `reported_rates`, `costs_of`."""

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
    answered_s: float,
    credential: str = "",
    credentials: Sequence[str] = (),
    costs: Sequence[tuple[str, float]] | None = None,
) -> Attribution:
    """
    All that the answer to a request did.

    Args:
        group, outcome, rules, clocks, sent_s, answered_s: See `reported_budgets`.
        member, members: See `closed_by`.
        costs: See `costs_of`; None: those of a permit, for which weights that look at answers are not.
    """
    is_refusal = outcome.action == "rate_limited"
    refused = closed_by(group, outcome.scope, credential, credentials) if is_refusal else []
    if costs is None:
        costs = costs_of(
            group, outcome, [replace(rule, weights=()) if rule.weights else rule for rule in rules]
        )
    says = outcome.rule_observations is not None or outcome.reported or outcome.rates
    if not (is_refusal or costs or says):
        return NO_ATTRIBUTION  # most of them
    return Attribution(
        reported_budgets(group, outcome, rules, clocks=clocks, sent_s=sent_s, answered_s=answered_s),
        [(name, outcome.wait_s or 0.0) for name in refused],
        outcome.guessed if is_refusal else 0,
        reported_rates(group, outcome, rules),
        costs,
    )
