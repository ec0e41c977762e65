"""Report what a queue knows about each limit and from which source, as facts and as YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote

from scrapeq.config import reader
from scrapeq.config.nodes import Node
from scrapeq.config.units import write_duration
from scrapeq.limit import Change, Limit, LimitState, Rate
from scrapeq.limits.partition import IMPLICIT
from scrapeq.plan import LimitRule, Plan

Source = Literal["manual", "configured", "reported", "learned", "concurrency", "unknown"]

NO_DEFINITION = Limit()
WHOLE_FROM = (
    10  # larger learned limits are written without their fraction, which is an artifact of the estimate
)
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_LENGTH = 64
_DIGEST_MARK = "~"  # starts a part of an instance's name that was replaced by its digest


@dataclass(frozen=True, slots=True)
class LimitFact:
    """
    What is known about one limit instance, or about a limit that no request has matched yet.

    Args:
        name: The instance, `core|api.example,a91f`, or the limit's name before its first instance.
        definition: What the file or a manual setting grants.
        state: The current state; None if no request has matched it yet.
        history: The changes of a learned rate, newest first; empty unless it was read.
    """

    name: str
    definition: Limit
    state: LimitState | None = None
    history: tuple[Change, ...] = ()

    @property
    def limit(self) -> str:
        """The limit's name, without the partition."""
        return self.name.partition("|")[0]

    @property
    def source(self) -> Source:
        """
        Where the rate comes from.

        manual (`limits set`), configured (the file), reported (by the server), learned (from refusals), concurrency
        (only a maximum of concurrent requests), or unknown.
        """
        if self.definition.rates:
            return "manual" if self.definition.version else "configured"
        if self.state is not None and (self.state.remaining is not None or self.state.source == "named"):
            return "reported"
        if self.state is not None and self.state.learned is not None:
            return "learned"
        if self.definition.version:
            return "manual"
        return "concurrency" if self.definition.max_concurrency else "unknown"

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates in force; empty if none is known."""
        if self.definition.rates or self.state is None or self.state.learned is None:
            return self.definition.rates
        return (self.state.learned,)

    @property
    def proven_rates(self) -> tuple[Rate, ...]:
        """The rates that the server is known to grant: during a trial, those before the trial."""
        if self.rates and self.state is not None and self.state.in_trial and self.history:
            return (Rate(self.history[0].limit, self.history[0].interval_s),)
        return self.rates

    @property
    def granting(self) -> Limit:
        """The definition with the rates in force."""
        return replace(self.definition, rates=self.rates)

    @property
    def word(self) -> str:
        """`state_word` of the state, or unused if no request has matched the limit."""
        return "unused" if self.state is None else state_word(self.state)


def state_word(limit: LimitState) -> str:
    """Return open, closed (used up for now), parked (refused by the server) or paused (by the user)."""
    if limit.paused:
        return "paused"
    if limit.parked_s > 0:
        return "parked"
    return "open" if limit.opens_s == 0 else "closed"


def facts_of(
    rules: Sequence[LimitRule], definitions: Mapping[str, Limit], states: Iterable[LimitState]
) -> list[LimitFact]:
    """
    Return a fact for every instance with a state and every limit without one, in the order of the rules.

    Args:
        rules: The limits of the file.
        definitions: The limits of the store, by name.
        states: The instances of the store.
    """
    facts = [
        LimitFact(state.name, definitions.get(state.name.partition("|")[0], NO_DEFINITION), state)
        for state in states
    ]
    used = {fact.limit for fact in facts}
    names = [rule.name for rule in rules]
    facts += [
        LimitFact(name, definitions.get(name, NO_DEFINITION))
        for name in dict.fromkeys([*names, *sorted(definitions)])
        if name not in used and name != IMPLICIT.name
    ]
    position = {name: at for at, name in enumerate(names)}
    return sorted(facts, key=lambda fact: (position.get(fact.limit, len(position)), fact.name))


def rate_text(rate: Rate) -> str:
    """Return `30/1m`, the form that `limits set` takes."""
    digits = 0 if rate.limit == int(rate.limit) or rate.limit >= WHOLE_FROM**2 else 2
    return f"{rate.limit:,.{digits}f}/{write_duration(rate.interval_s)}"


# --- as YAML


def rules_yaml(plan: Plan, facts: Sequence[LimitFact]) -> list[dict[str, Any]]:
    """
    Return entries for `rate_limits`: those of the file, completed with the rates that the store knows.

    If the instances of a limit differ, the lowest rate is used. Rates of hosts without a rule in the file become one
    rule per host; hosts without a known rate are omitted.
    """
    names = {fact.limit for fact in facts}
    entries = [entry for entry in _file_entries(plan) if entry["name"] in names]
    taken = {rule.name for rule in plan.rate_limits}
    for entry in entries:
        _complete(entry, [fact for fact in facts if fact.limit == entry["name"]])
    by_host: dict[str, list[LimitFact]] = {}
    for fact in facts:
        host = unquote(fact.name.partition("|")[2].partition(",")[0])
        if fact.limit == IMPLICIT.name and host and not host.startswith(_DIGEST_MARK):
            by_host.setdefault(host, []).append(fact)
    for host, host_facts in by_host.items():
        entry = _complete({"name": "", "match": {"host": host}}, host_facts)
        if entry.keys() & {"rates", "max_concurrency"}:
            entries.append({**entry, "name": _name_for(host, taken)})
    return entries


def _file_entries(plan: Plan) -> list[dict[str, Any]]:
    root = reader.read(plan.source, plan.file)
    node = root.get("rate_limits")
    return [_plain(item) for item in node.items] if node is not None else []


def _plain(node: Node) -> Any:
    """Return a node of the file as plain values."""
    if node.kind == "list":
        return [_plain(item) for item in node.items]
    if node.kind == "map":
        return {key: _plain(entry.node) for key, entry in node.entries.items()}
    return node.value


def _complete(entry: dict[str, Any], facts: Sequence[LimitFact]) -> dict[str, Any]:
    """Add to the entry what the facts know beyond the file, and return it."""
    # Aligned rates come from the file: with a manual setting only the concurrency can differ from it.
    known = [
        fact
        for fact in facts
        if fact.source != "configured" and fact.rates and all(rate.aligned_s is None for rate in fact.rates)
    ]
    if known:
        lowest = min((fact.proven_rates for fact in known), key=_per_s)
        entry["rates"] = [_rate_yaml(rate) for rate in lowest]
    max_concurrency = next(
        (fact.definition.max_concurrency for fact in facts if fact.source == "manual"), None
    )
    if max_concurrency:
        entry["max_concurrency"] = max_concurrency
    return entry


def _per_s(rates: Iterable[Rate]) -> float:
    return min(rate.limit / rate.interval_s for rate in rates)


def _rate_yaml(rate: Rate) -> dict[str, Any]:
    # Round down, since a learned rate is an estimate; keep three decimals of a small one.
    limit: float = (
        math.floor(rate.limit) if rate.limit >= WHOLE_FROM else math.floor(rate.limit * 1000) / 1000
    )
    limit = int(limit) if limit == int(limit) else limit
    entry: dict[str, Any] = {"limit": limit, "interval": write_duration(rate.interval_s)}
    return {**entry, "burst": rate.burst} if rate.burst else entry


def _name_for(host: str, taken: set[str]) -> str:
    """Return a name for the limit of a host that is not taken, and add it to those taken."""
    stem = name = _NOT_IN_NAME.sub("-", host).strip("-")[:_NAME_LENGTH] or "host"
    number = 2
    while name in taken:
        name = f"{stem[: _NAME_LENGTH - len(str(number)) - 1]}-{number}"
        number += 1
    taken.add(name)
    return name
