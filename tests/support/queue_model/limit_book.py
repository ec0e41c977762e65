"""The limits that the reference model knows: definitions, and the state of each instance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from scrapeq.limit import Limit
from scrapeq.limits.engine import LimitModel


@dataclass(kw_only=True)
class LimitBook:
    """Microseconds throughout."""

    definitions: dict[str, Limit] = field(default_factory=dict)
    limits: dict[str, LimitModel] = field(default_factory=dict)

    def limit(self, name: str) -> LimitModel:
        """The state of a limit instance."""
        return self.limits.setdefault(name, LimitModel(name, self.definitions))

    def learn_definitions(self, limits: Mapping[str, Limit], now: int, *, force: bool = False) -> None:
        """Those of a lower version than what stands are taken by force only; what changes notes when."""
        for name, limit in limits.items():
            old = self.definitions.get(name)
            if old is None or old.version <= limit.version or force:
                since = 0 if old is None else old.since_us if old == limit else now
                self.definitions[name] = replace(limit, since_us=since)

    def steer_limits(self, verb: str, names: Iterable[str], until: int) -> None:
        """park (until then), unpark, forget, pause, resume."""
        for limit in map(self.limit, names):
            if verb == "park":
                limit.park(until)
            elif verb == "unpark":
                limit.unpark()
            elif verb == "forget":  # but for what is in flight
                self.limits[limit.name] = limit.forgotten()
            else:
                limit.paused = verb == "pause"
