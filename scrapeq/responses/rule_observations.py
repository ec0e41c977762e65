"""
Assign what a response reports to the limits of its request. Pure.

A rule with its own `observe` receives what that reads; of several rules with the same `observe`, the narrowest. A
budget with the name of a rule belongs to that rule. Everything else belongs to the narrowest rule without an
`observe`. The narrowest rule has the most keys in its `partition_by`; of equal ones it is the last one in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scrapeq.page import Page
from scrapeq.plan import LimitRule, Observe
from scrapeq.responses.observation import AUTO, Observation, Reported, binding_budget, observe_page


@dataclass(frozen=True, slots=True)
class RuleObservation:
    """What a response reported about the limit of one rule; `rates` as in `Observation`."""

    rule: str
    reported: Reported | None
    rates: tuple[tuple[float, float], ...] = ()


def observe_for_rules(
    page: Page, now_s: float, rules: Sequence[LimitRule] = (), names: Mapping[str, Any] | None = None
) -> tuple[Observation, tuple[RuleObservation, ...] | None]:
    """
    Read a response for the rules that its request matches.

    Args:
        page: The response.
        now_s: The client's clock, Unix seconds.
        rules: The rules in the order of the file; () = the implicit one.
        names: More names for expressions: seed, parent, now.

    Returns:
        The observation for the task (a refusal if any rule reads one), and those of the rules; None = the
        observation applies to every limit that observes responses.
    """
    general = observe_page(page, now_s)
    reported_names = {budget.name for budget in general.budgets if budget.is_reported}
    if all(rule.observe in ("none", AUTO) and rule.name not in reported_names for rule in rules):
        return general, None
    order = sorted(enumerate(rules), key=lambda one: (len(one[1].partition_by), one[0]), reverse=True)
    found: list[RuleObservation] = []
    read: dict[Observe, Observation] = {}
    undeclared: list[str] = []  # rules without an `observe`
    for _, rule in order:
        how = rule.observe
        if how == "none":
            continue
        named = [
            budget for budget in general.budgets if budget.name == rule.name and rule.name in reported_names
        ]
        if how == AUTO and not named:
            undeclared.append(rule.name)
        elif how == AUTO:
            found.append(RuleObservation(rule.name, binding_budget(named)))
        elif how not in read:
            read[how] = observe_page(page, now_s, how, rule.rates, names)
            found.append(RuleObservation(rule.name, read[how].reported, read[how].rates))
    own = [one for one in found if one.reported or one.rates]
    reported = None if any(one.reported == general.reported for one in own) else general.reported
    rates = tuple(rate for rate in general.rates if not any(rate in one.rates for one in own))
    if undeclared and (reported or rates):
        own.append(RuleObservation(undeclared[0], reported, rates))
    return _merged(general, list(read.values())), tuple(own)


def _merged(general: Observation, others: Sequence[Observation]) -> Observation:
    """Merge observations for the task: those of rules take precedence over the general one."""
    if not others:
        return general
    refusals = [one for one in others if one.refused]
    first = (refusals or list(others))[0]
    costs = [one.cost for one in others if one.cost is not None]
    waits = [one.retry_after_s for one in (general, *others) if one.retry_after_s is not None]
    return replace(
        first,
        wait_s=max((one.wait_s for one in refusals or others if one.wait_s is not None), default=None),
        retry_after_s=max(waits, default=None),
        cost=costs[0] if costs else general.cost,
        bucket=next((one.bucket for one in others if one.bucket), general.bucket),
        scope=next((one.scope for one in others if one.scope), general.scope),
    )
