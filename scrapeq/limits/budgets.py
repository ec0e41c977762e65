"""
The budgets that header fields tell: limit, remaining, reset and window, one `Budget` per limit named.

The IETF's RateLimit fields (draft-ietf-httpapi-ratelimit-headers 01 to 10), X-RateLimit-* and its kin with a
vendor's prefix or a dimension, and the ways a reset is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import http_sf

from scrapeq.limits import times

RATE_FIELD = "x-amzn-ratelimit-limit"  # requests per second, not a count
_SHORT_TEXT = 1024  # characters of a field value that are looked at; real ones are below 200
_REQUEST_UNITS = frozenset({"", "requests", "request"})
_KINDS = ("remaining", "reset-after", "resettime", "reset", "limit", "interval")
_NAMED = re.compile(r"(?P<family>.*?)rate-?limit-(?P<rest>.+)", re.ASCII)
_SEMICOLONS = re.compile(r"(?:^|[;,\s])remaining\s*=\s*([0-9.]+).*?[;,\s]resets?\s*=\s*([0-9.]+)", re.ASCII)
_DAY_NAME = re.compile(
    r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Policy:
    """One quota that the server declares: `limit` requests (or `unit`) per `window_s` seconds."""

    limit: float
    window_s: float | None = None
    name: str = ""
    unit: str = ""  # "" = requests


@dataclass(frozen=True, slots=True)
class Budget:
    """One limit as told: what is left of it and when it is full again."""

    remaining: float | None = None
    reset_s: float | None = None
    limit: float | None = None
    window_s: float | None = None
    name: str = ""
    counts_requests: bool = True

    @property
    def exhausted(self) -> bool:
        """Nothing is left of it."""
        return self.remaining is not None and self.remaining <= 0


class Fields:
    """Header values by lower-case name, bytes of any kind already text."""

    def __init__(self, headers: Iterable[tuple[str, str]]) -> None:
        self.values: dict[str, list[str]] = {}
        for name, value in headers:
            if len(value) <= _SHORT_TEXT:
                self.values.setdefault(name.lower(), []).append(value.strip(" \t"))

    def longest(self, name: str, read: Callable[[str], float | None]) -> float | None:
        """The longest valid one of a field's values, also where a library joined them with commas."""
        found = [read(part) for value in self.values.get(name, ()) for part in split(value)]
        return max((seconds for seconds in found if seconds is not None), default=None)

    def joined(self, name: str) -> str:
        """All values of a field, as one (RFC 9110, 5.2)."""
        return ", ".join(self.values.get(name, ()))


def split(value: str) -> list[str]:
    """A field value at its commas, dates kept whole."""
    parts: list[str] = []
    for part in (part.strip(" \t") for part in value.split(",")):
        if parts and _DAY_NAME.fullmatch(parts[-1]):
            parts[-1] = f"{parts[-1]}, {part}"
        else:
            parts.append(part)
    return parts


def reset_s(text: str, server_s: float) -> float | None:
    """A reset field, in any form: seconds to go, Unix seconds or milliseconds, a date, a duration."""
    value = times.number(text)
    if value is None:
        moment = times.iso_date(text)
        if moment is None:
            moment = times.http_date(text, server_s)
        if moment is not None:
            return times.capped(moment - server_s)
        value = times.duration_s(text)
        return None if value is None else times.capped(value)
    if value >= times.EPOCH_MS_FROM:
        return times.capped(value / 1000 - server_s)
    if value >= times.EPOCH_S_FROM:
        return times.capped(value - server_s)
    return times.capped(value)


# --- the IETF's drafts


def _structured(text: str, kind: str) -> object:
    if not text:
        return None
    try:
        return http_sf.parse(text.encode("latin-1", "replace"), tltype=kind)
    except (ValueError, RecursionError):  # malformed MUST be ignored
        return None


def _members(text: str) -> list[tuple[object, dict[str, object]]]:
    found = _structured(text, "list")
    if not isinstance(found, list):
        return []
    return [(item[0], item[1]) for item in found if isinstance(item, tuple) and not isinstance(item[0], list)]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def policies(fields: Fields) -> tuple[Policy, ...]:
    """RateLimit-Policy in both its forms, and RateLimit-Limit's quota policies."""
    found: list[Policy] = []
    for name in ("ratelimit-policy", "ratelimit-limit"):
        for value, parameters in _members(fields.joined(name)):
            window = _count(parameters.get("w"))
            unit = parameters.get("qu", "")
            if isinstance(value, int):
                limit, label = _count(value), ""
            else:
                limit, label = _count(parameters.get("q")), str(value)
            if limit is None or (name == "ratelimit-limit" and window is None):
                continue
            found.append(Policy(float(limit), None if window is None else float(window), label, _unit(unit)))
    return tuple(found)


def _unit(unit: object) -> str:
    text = str(unit)
    return "" if text in _REQUEST_UNITS else text


def ietf(fields: Fields, declared: Sequence[Policy]) -> list[Budget]:
    """RateLimit, drafts 07 (a Dictionary) and 08 to 10 (a List)."""
    text = fields.joined("ratelimit")
    table = _structured(text, "dictionary")
    if isinstance(table, dict) and "remaining" in table:
        read = {key: _count(value[0]) for key, value in table.items() if isinstance(value, tuple)}
        remaining, reset, limit = read.get("remaining"), read.get("reset"), read.get("limit")
        if remaining is None or reset is None:
            return []
        window = next((policy.window_s for policy in declared), None)
        return [Budget(remaining, times.capped(reset), limit, window)]
    budgets: list[Budget] = []
    by_name = {policy.name: policy for policy in declared if policy.name}
    for value, parameters in _members(text):
        remaining, reset = _count(parameters.get("r")), _count(parameters.get("t"))
        if (
            not isinstance(value, str | http_sf.Token)
            or remaining is None
            or ("t" in parameters and reset is None)
        ):
            continue
        policy = by_name.get(str(value), Policy(0.0))
        budgets.append(
            Budget(
                remaining,
                None if reset is None else times.capped(reset),
                policy.limit or None,
                policy.window_s,
                str(value),
                not policy.unit,
            )
        )
    return budgets


# --- fields by name: RateLimit-*, X-Rate-Limit-*, a vendor's own prefix, a dimension behind or before


def named(fields: Fields, server_s: float) -> list[list[Budget]]:
    """Budgets of families of fields, as levels: RateLimit-*, those that give seconds to go, the rest."""
    families: dict[tuple[str, str], dict[str, str]] = {}
    pairs: list[Budget] = []
    for name in fields.values:
        if "limit" not in name or name == RATE_FIELD:
            continue
        found = _NAMED.fullmatch(name)
        if found is None:
            continue
        kind, dimension = _kind(found["rest"])
        text = fields.joined(name)
        if kind:
            families.setdefault((found["family"], dimension), {})[kind] = text
        elif (both := _SEMICOLONS.search(text)) is not None:  # "total=100; remaining=0; resets=33"
            remaining, reset = times.number(both[1]), times.number(both[2])
            if remaining is not None and reset is not None:
                pairs.append(Budget(remaining, times.capped(reset), name=name))
    ietf: list[Budget] = []
    deltas: list[Budget] = []
    rest: list[Budget] = []
    for (family, dimension), texts in families.items():
        budget = _family(texts, dimension, server_s)
        after = _longest_of(texts.get("reset-after", ""), times.number)
        if not family and not dimension:
            ietf.append(budget)
        elif after is not None:  # needs no clock, so it beats an absolute reset
            deltas.append(replace(budget, reset_s=times.capped(after)))
        else:
            rest.append(budget)
    return [ietf + pairs, deltas, rest]


def _kind(rest: str) -> tuple[str, str]:
    """`requests-reset`, `reset-requests` -> (`reset`, `requests`); an unknown word is no kind."""
    for kind in _KINDS:
        if rest == kind:
            return kind, ""
        if rest.startswith(f"{kind}-"):
            return kind, rest[len(kind) + 1 :]
        if rest.endswith(f"-{kind}"):
            return kind, rest[: -len(kind) - 1]
    return "", ""


def _longest_of(text: str, read: Callable[[str], float | None]) -> float | None:
    return max((value for value in map(read, split(text)) if value is not None), default=None)


def _family(texts: dict[str, str], dimension: str, server_s: float) -> Budget:
    parts = [part.partition(";")[0] for part in split(texts.get("remaining", ""))]  # "57;w=21600"
    left = [value for value in map(times.signed, parts) if value is not None]
    reset = _longest_of(texts.get("reset", ""), lambda text: reset_s(text, server_s))
    if reset is None:
        reset = _longest_of(texts.get("resettime", ""), lambda text: reset_s(text, server_s))
    return Budget(
        remaining=min(left) if left else None,
        reset_s=reset,
        limit=times.number(texts.get("limit", "").split(",")[0].split(";")[0].strip()),
        window_s=_longest_of(
            texts.get("interval", ""), lambda text: times.duration_s(text) or times.number(text)
        ),
        name=dimension,
        counts_requests=not any(
            word in dimension for word in ("token", "byte", "point", "cost", "concurrent")
        ),
    )
