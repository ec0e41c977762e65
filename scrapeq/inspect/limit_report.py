"""What is known of each limit of a queue and how, for people; and the same as YAML."""

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

How = Literal["by hand", "configured", "told", "learned", "concurrency", "unknown"]

NO_DEFINITION = Limit()
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_LENGTH = 64
WHOLE_FROM = 10
_DIGEST_MARK = "~"  # begins a part of an instance's name that was too long


@dataclass(frozen=True, slots=True)
class LimitFact:
    """
    One limit instance, or a limit that no request has met yet (`state` None).

    Args:
        name: The instance: `core|api.example,a91f`, or the limit's name.
        definition: What grants it where nothing is told.
        state: What is known now.
        history: What was learned of it, newest first, where that was asked for.
    """

    name: str
    definition: Limit
    state: LimitState | None = None
    history: tuple[Change, ...] = ()

    @property
    def limit(self) -> str:
        """The limit's own name, without the partition."""
        return self.name.partition("|")[0]

    @property
    def how(self) -> How:
        """
        How it is known what it grants.

        by hand (`limits set`), configured (the file), told (the answers), learned (refusals), concurrency (only how
        many at once), unknown.
        """
        if self.definition.rates:
            return "by hand" if self.definition.version else "configured"
        if self.state is not None and (self.state.remaining is not None or self.state.source == "named"):
            return "told"
        if self.state is not None and self.state.learned is not None:
            return "learned"
        if self.definition.version:
            return "by hand"
        return "concurrency" if self.definition.max_concurrency else "unknown"

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates in force; empty = none is known."""
        if self.definition.rates or self.state is None or self.state.learned is None:
            return self.definition.rates
        return (self.state.learned,)

    @property
    def sure_rates(self) -> tuple[Rate, ...]:
        """The rates that are known to be granted: without what a trial adds."""
        if self.rates and self.state is not None and self.state.in_trial and self.history:
            return (Rate(self.history[0].limit, self.history[0].interval_s),)
        return self.rates

    @property
    def granting(self) -> Limit:
        """The definition with the rates in force."""
        return replace(self.definition, rates=self.rates)

    @property
    def word(self) -> str:
        """open, closed (spent for now), parked (a refusal), paused (a person), unused (no request has met it)."""
        return "unused" if self.state is None else state_word(self.state)


def state_word(limit: LimitState) -> str:
    """open, closed (spent for now), parked (a refusal), paused (a person)."""
    if limit.paused:
        return "paused"
    if limit.parked_s > 0:
        return "parked"
    return "open" if limit.opens_s == 0 else "closed"


def facts_of(
    rules: Sequence[LimitRule], definitions: Mapping[str, Limit], cursor_store: Iterable[LimitState]
) -> list[LimitFact]:
    """Every instance that has a state, and every limit of the file that has none yet; in the file's order."""
    facts = [
        LimitFact(state.name, definitions.get(state.name.partition("|")[0], NO_DEFINITION), state)
        for state in cursor_store
    ]
    met = {fact.limit for fact in facts}
    named = [rule.name for rule in rules]
    facts += [
        LimitFact(name, definitions.get(name, NO_DEFINITION))
        for name in dict.fromkeys([*named, *sorted(definitions)])
        if name not in met and name != IMPLICIT.name
    ]
    place = {name: at for at, name in enumerate(named)}
    return sorted(facts, key=lambda fact: (place.get(fact.limit, len(place)), fact.name))


def rate_text(rate: Rate) -> str:
    """`30/1m`, as `limits set` takes it."""
    digits = 0 if rate.limit == int(rate.limit) or rate.limit >= WHOLE_FROM**2 else 2
    return f"{rate.limit:,.{digits}f}/{write_duration(rate.interval_s)}"


# --- as YAML


def rules_yaml(plan: Plan, facts: Sequence[LimitFact]) -> list[dict[str, Any]]:
    """
    Entries of `rate_limits`: the file's as they are written there, with what else is known of what they grant.

    Of instances that differ the lowest rate stands. What holds where the file has no rule becomes a rule per host;
    a host of which nothing is known is left out.
    """
    named = {fact.limit for fact in facts}
    entries = [entry for entry in _file_entries(plan) if entry["name"] in named]
    taken = {rule.name for rule in plan.rate_limits}
    for entry in entries:
        _fill(entry, [fact for fact in facts if fact.limit == entry["name"]])
    by_host: dict[str, list[LimitFact]] = {}
    for fact in facts:
        host = unquote(fact.name.partition("|")[2].partition(",")[0])
        if fact.limit == IMPLICIT.name and host and not host.startswith(_DIGEST_MARK):
            by_host.setdefault(host, []).append(fact)
    for host, own in by_host.items():
        entry = _fill({"name": "", "match": {"host": host}}, own)
        if entry.keys() & {"rates", "max_concurrency"}:
            entries.append({**entry, "name": _name_for(host, taken)})
    return entries


def _file_entries(plan: Plan) -> list[dict[str, Any]]:
    root = reader.read(plan.source, plan.file)
    written = root.get("rate_limits")
    return [_plain(node) for node in written.items] if written is not None else []


def _plain(node: Node) -> Any:
    """A part of a file as plain values."""
    if node.kind == "list":
        return [_plain(item) for item in node.items]
    if node.kind == "map":
        return {key: _plain(entry.node) for key, entry in node.entries.items()}
    return node.value


def _fill(entry: dict[str, Any], facts: Sequence[LimitFact]) -> dict[str, Any]:
    """The entry with what is known beside the file."""
    # calendar windows are the file's own: by hand only the rest was said
    known = [
        fact
        for fact in facts
        if fact.how != "configured" and fact.rates and all(rate.aligned_s is None for rate in fact.rates)
    ]
    if known:
        lowest = min((fact.sure_rates for fact in known), key=_per_s)
        entry["rates"] = [_rate_yaml(rate) for rate in lowest]
    most = next((fact.definition.max_concurrency for fact in facts if fact.how == "by hand"), None)
    if most:
        entry["max_concurrency"] = most
    return entry


def _per_s(rates: Iterable[Rate]) -> float:
    return min(rate.limit / rate.interval_s for rate in rates)


def _rate_yaml(rate: Rate) -> dict[str, Any]:
    # what was learned is an estimate: its fraction is nothing to write down, unless it is all there is
    limit: float = (
        math.floor(rate.limit) if rate.limit >= WHOLE_FROM else math.floor(rate.limit * 1000) / 1000
    )
    limit = int(limit) if limit == int(limit) else limit
    written: dict[str, Any] = {"limit": limit, "interval": write_duration(rate.interval_s)}
    return {**written, "burst": rate.burst} if rate.burst else written


def _name_for(host: str, taken: set[str]) -> str:
    """A limit's name for a host, unlike those that are there."""
    stem = name = _NO_NAME.sub("-", host).strip("-")[:_NAME_LENGTH] or "host"
    number = 2
    while name in taken:
        name = f"{stem[: _NAME_LENGTH - len(str(number)) - 1]}-{number}"
        number += 1
    taken.add(name)
    return name
