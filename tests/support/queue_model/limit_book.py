"""The limits of the reference model: their definitions, and the state of each instance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from scrapeq.limit import Limit
from scrapeq.limits.engine import LimitModel


@dataclass(kw_only=True)
class LimitBook:
    """Definitions by limit name, states by instance name. Times are in microseconds."""

    definitions: dict[str, Limit] = field(default_factory=dict)
    limits: dict[str, LimitModel] = field(default_factory=dict)

    def limit(self, name: str) -> LimitModel:
        """Return the state of a limit instance; create it if it is new."""
        return self.limits.setdefault(name, LimitModel(name, self.definitions))

    def learn_definitions(self, limits: Mapping[str, Limit], now: int, *, force: bool = False) -> None:
        """Store definitions; one with a lower version than the present one needs `force`. A change records its time."""
        for name, limit in limits.items():
            old = self.definitions.get(name)
            if old is None or old.version <= limit.version or force:
                since = 0 if old is None else old.since_us if old == limit else now
                self.definitions[name] = replace(limit, since_us=since)

    def steer_limits(self, verb: str, names: Iterable[str], until: int) -> None:
        """Apply park (until then), unpark, forget, pause or resume to instances."""
        for limit in map(self.limit, names):
            if verb == "park":
                limit.park(until)
            elif verb == "unpark":
                limit.unpark()
            elif verb == "forget":  # requests in flight still count
                self.limits[limit.name] = limit.forgotten()
            else:
                limit.paused = verb == "pause"
