"""
What an answer tells each limit of its request: which reading is whose. Pure.

A rule with an `observe` of its own hears what that reads; of several with the same one, the narrowest does. A budget
whose name is that of a rule is that rule's. What nobody has heard so is told to the narrowest rule that says nothing
about how it listens. The narrowest has the most keys in its `partition_by`, of equal ones the last written.
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
    """What an answer told the limit of one rule; `rates` as in `Observation`."""

    rule: str
    reported: Reported | None
    rates: tuple[tuple[float, float], ...] = ()


def observe_for_rules(
    page: Page, now_s: float, rules: Sequence[LimitRule] = (), names: Mapping[str, Any] | None = None
) -> tuple[Observation, tuple[RuleObservation, ...] | None]:
    """
    Read an answer for the rules of its request.

    Args:
        page: The answer.
        now_s: The client's clock, Unix seconds.
        rules: The rules that its request matches, in the order written; none = the implicit one.
        names: More names for expressions: seed, parent, now.

    Returns:
        What it means for the task (a refusal if any rule's reading says so), and what it told whom; None: what the
        observation says is for whichever limit listens.
    """
    general = observe_page(page, now_s)
    reported_names = {budget.name for budget in general.budgets if budget.is_reported}
    if all(rule.observe in ("none", AUTO) and rule.name not in reported_names for rule in rules):
        return general, None
    order = sorted(enumerate(rules), key=lambda one: (len(one[1].partition_by), one[0]), reverse=True)
    heard: list[RuleObservation] = []
    read: dict[Observe, Observation] = {}
    silent: list[str] = []  # rules that say nothing about how they listen
    for _, rule in order:
        how = rule.observe
        if how == "none":
            continue
        named = [
            budget for budget in general.budgets if budget.name == rule.name and rule.name in reported_names
        ]
        if how == AUTO and not named:
            silent.append(rule.name)
        elif how == AUTO:
            heard.append(RuleObservation(rule.name, binding_budget(named)))
        elif how not in read:
            read[how] = observe_page(page, now_s, how, rule.rates, names)
            heard.append(RuleObservation(rule.name, read[how].reported, read[how].rates))
    own = [one for one in heard if one.reported or one.rates]
    reported = None if any(one.reported == general.reported for one in own) else general.reported
    rates = tuple(rate for rate in general.rates if not any(rate in one.rates for one in own))
    if silent and (reported or rates):
        own.append(RuleObservation(silent[0], reported, rates))
    return _together(general, list(read.values())), tuple(own)


def _together(general: Observation, others: Sequence[Observation]) -> Observation:
    """One observation for the task: what a rule's reading says counts before what is read without one."""
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
