"""
Parse the budgets in header fields: limit, remaining, used, reset and window, one `Budget` for each limit.

This covers X-RateLimit-* and its variants with a vendor's prefix or a dimension. `ratelimit_fields` parses the IETF's
structured fields, `vendors` the fields without a common format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from scrapeq.responses import times

RATE_FIELD = "x-amzn-ratelimit-limit"  # requests per second, not a count
_NAMES_CACHED = 1024
_SHORT_TEXT = 1024  # characters; real values are shorter than 200, longer ones are ignored
# The end of a name -> its meaning. Longer words come first, since "reset" is a prefix of "reset-after".
_KINDS = {
    "remaining": "remaining",
    "reset-after": "reset-after",
    "reset-time": "reset-time",
    "resettime": "reset-time",
    "reset": "reset",
    "limit": "limit",
    "max": "limit",
    "interval": "interval",
    "window": "interval",
    "used": "used",
    "observed": "used",
}
# Fields that describe the response, not a limit.
_OF_THE_RESPONSE = frozenset({"cost", "name", "bucket", "resource", "scope", "global"})
UNLIMITED = -1.0  # what gateways send as the size of a quota that a key does not have
_UNLIMITED_WORDS = frozenset({"unlimited", "infinite", "infinity", "inf", "∞", "no-limit", "none"})
_MS_ENDINGS = ("-ms", "-milliseconds", "-millis")
_WINDOWS_S = {
    "second": 1.0, "secondly": 1.0, "per-second": 1.0,
    "minute": 60.0, "minutely": 60.0, "per-minute": 60.0,
    "hour": 3600.0, "hourly": 3600.0, "per-hour": 3600.0,
    "day": 86400.0, "daily": 86400.0, "per-day": 86400.0,
}  # fmt: skip
_OTHER_UNITS = ("token", "byte", "point", "cost", "concurrent")
_NAMED = re.compile(r"(?P<family>.*?)rate-?limit-(?P<rest>.+)", re.ASCII)
_SEMICOLONS = re.compile(r"(?:^|[;,\s])remaining\s*=\s*([0-9.]+).*?[;,\s]resets?\s*=\s*([0-9.]+)", re.ASCII)
_TOTAL = re.compile(r"(?:^|[;,\s])(?:total|limit)\s*=\s*([0-9.]+)", re.ASCII)
_BURST_AND_RATE = re.compile(r"burst:([0-9.]+);\s*rate:([0-9.]+)", re.ASCII)
_DAY_NAME = re.compile(
    r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Policy:
    """A quota that the server declares: `limit` requests (or `unit`) per `window_s` seconds, for a partition `key`."""

    limit: float
    window_s: float | None = None
    name: str = ""
    unit: str = ""  # "" = requests
    key: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """
    One limit as a server reports it.

    Args:
        remaining: What is left, in `unit`.
        reset_s: Seconds from now until it is full again; for a leaky bucket, until the next request fits.
        limit: Its size.
        window_s: Seconds of its window.
        used: What is spent.
        name: The server's name for it: a policy, a bucket, a resource.
        key: The partition key that it is counted for (`pk`).
        unit: "" = requests; else tokens, content-bytes, concurrent-requests and so on.
        scope: The server's word for who shares it: global, user, shared.
        reset_at: The Unix time of the reset where it was written as one; whole seconds are rounded.
    """

    remaining: float | None = None
    reset_s: float | None = None
    limit: float | None = None
    window_s: float | None = None
    used: float | None = None
    name: str = ""
    key: str = ""
    unit: str = ""
    scope: str = ""
    reset_at: float | None = None

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self.remaining is not None and self.remaining <= 0

    @property
    def is_unlimited(self) -> bool:
        """Whether it says, on a success, that nothing is limited: a size of -1, or 0 left of 0."""
        if self.limit is None:
            return self.remaining == UNLIMITED
        return self.limit < 0 or (not self.limit and (self.remaining or 0.0) <= 0)

    @property
    def is_reported(self) -> bool:
        """Whether it states what is left and when it resets."""
        return self.remaining is not None and self.reset_s is not None


class Fields:
    """Header values by lower-case name."""

    def __init__(self, headers: Iterable[tuple[str, str]]) -> None:
        self.values: dict[str, list[str]] = {}
        for name, value in headers:
            if len(value) <= _SHORT_TEXT:
                self.values.setdefault(name.lower(), []).append(value.strip(" \t"))

    def longest(self, name: str, read: Callable[[str], float | None]) -> float | None:
        """Return the longest valid value of a field, also where several were joined by commas."""
        if name not in self.values:
            return None
        found = [read(part) for value in self.values.get(name, ()) for part in split(value)]
        return max((seconds for seconds in found if seconds is not None), default=None)

    def joined(self, name: str) -> str:
        """Return all values of a field as one (RFC 9110, 5.2)."""
        texts = self.values.get(name)
        if texts is None:
            return ""
        return texts[0] if len(texts) == 1 else ", ".join(texts)


def split(value: str) -> list[str]:
    """Split a field value at its commas, but not within dates."""
    if "," not in value:
        return [value]
    parts: list[str] = []
    for part in (part.strip(" \t") for part in value.split(",")):
        if parts and _DAY_NAME.fullmatch(parts[-1]):
            parts[-1] = f"{parts[-1]}, {part}"
        else:
            parts.append(part)
    return parts


def unit_of(dimension: str) -> str:
    """Return the unit of a dimension; "" for requests."""
    return dimension if any(word in dimension for word in _OTHER_UNITS) else ""


# --- fields by name: RateLimit-*, X-Rate-Limit-*, with a vendor's prefix, with a dimension before or after


@dataclass(frozen=True, slots=True)
class Named:
    """Budgets by level (RateLimit-*, relative resets, the rest), and facts about the whole response."""

    levels: list[list[Budget]]
    cost: float | None = None
    bucket: str = ""
    scope: str = ""


def named(fields: Fields, server_s: float, form: str = "auto") -> Named:
    """Parse all fields with "rate limit" in their names; `form` is the format of their resets."""
    families: dict[tuple[str, str], dict[str, str]] = {}
    pairs: list[Budget] = []
    facts: dict[str, str] = {}
    for name in fields.values:
        if "limit-" not in name:
            continue
        family, rest, kind, dimension = _parts(name)
        text = fields.joined(name)
        if kind:
            families.setdefault((family, dimension), {})[kind] = text
        elif rest in _OF_THE_RESPONSE:
            facts.setdefault(rest, text)
        elif rest and (both := _SEMICOLONS.search(text)) is not None:  # "total=100; remaining=0; resets=33"
            remaining, reset = times.number(both[1]), times.number(both[2])
            total = _TOTAL.search(text)
            if remaining is not None and reset is not None:
                limit = times.number(total[1]) if total else None
                pairs.append(Budget(remaining, times.capped(reset), limit, name=rest))
    bucket = facts.get("bucket") or facts.get("resource") or facts.get("name") or ""
    scope = "global" if facts.get("global", "").lower() == "true" else facts.get("scope", "").lower()
    ietf: list[Budget] = []
    deltas: list[Budget] = []
    others: list[Budget] = []
    for (family, dimension), texts in families.items():
        budget = _family(texts, dimension, server_s, form)
        if not dimension:
            budget = replace(budget, name=bucket, scope=scope)
        after = _longest_of(texts.get("reset-after", ""), times.in_window_units)
        if after is None:
            after = _milliseconds(texts.get("reset-after-ms", ""))
        if not family and not dimension:
            ietf.append(budget)
        elif after is not None:  # independent of clocks, so it beats an absolute reset
            deltas.append(replace(budget, reset_s=times.capped(after), reset_at=None))
        else:
            others.append(budget)
    cost = _longest_of(facts.get("cost", ""), times.number)
    return Named([ietf + pairs, deltas, others], cost, bucket, scope)


@lru_cache(maxsize=_NAMES_CACHED)
def _parts(name: str) -> tuple[str, str, str, str]:
    """Split `x-ratelimit-reset-requests` into (`x-`, `reset-requests`, `reset`, `requests`)."""
    found = _NAMED.fullmatch(name) if name != RATE_FIELD else None
    return ("", "", "", "") if found is None else (found["family"], found["rest"], *_kind(found["rest"]))


def _kind(rest: str) -> tuple[str, str]:
    """
    Split `requests-reset` and `reset-requests` into (`reset`, `requests`); ("", "") for unknown words.

    `daily` alone is the limit of that window; `interval-milliseconds` is in milliseconds.
    """
    finer = next((ending for ending in _MS_ENDINGS if rest.endswith(ending)), "")
    rest = rest.removesuffix(finer)
    ms = "-ms" if finer else ""
    for word, kind in _KINDS.items():
        if rest == word:
            return kind + ms, ""
        if rest.startswith(f"{word}-"):
            return kind + ms, rest[len(word) + 1 :]
        if rest.endswith(f"-{word}"):
            return kind + ms, rest[: -len(word) - 1]
    return ("limit", rest) if rest in _WINDOWS_S else ("", "")


def _longest_of(text: str, read: Callable[[str], float | None]) -> float | None:
    if not text:
        return None
    return max((value for value in map(read, split(text)) if value is not None), default=None)


def _milliseconds(text: str) -> float | None:
    value = _longest_of(text, times.number)
    return None if value is None else value / 1000


def _limit(text: str) -> float | None:
    return UNLIMITED if text.lower() in _UNLIMITED_WORDS else times.signed(text)


def _family(texts: dict[str, str], dimension: str, server_s: float, form: str) -> Budget:
    parts = [part.partition(";")[0] for part in split(texts.get("remaining", ""))]  # "57;w=21600"
    left = [value for value in map(times.signed, parts) if value is not None]
    resets = split(texts.get("reset", ""))
    reset = _longest_of(texts.get("reset", ""), lambda text: times.until_s(text, server_s, form))
    if reset is None:
        finer = texts.get("reset-ms", "")
        form_ms = "epoch_ms" if (times.number(finer) or 0.0) >= times.EPOCH_MS_FROM else "delta_ms"
        reset = _longest_of(finer, lambda text: times.until_s(text, server_s, form_ms))
    if reset is None:
        reset = _longest_of(texts.get("reset-time", ""), lambda text: times.until_s(text, server_s))
    limit = _limit(texts.get("limit", "").split(",")[0].split(";")[0].strip())
    window = _longest_of(texts.get("interval", ""), times.in_window_units)
    if window is None:
        window = _milliseconds(texts.get("interval-ms", ""))
    if window is None:
        window = _WINDOWS_S.get(dimension)
    if (bucket := _BURST_AND_RATE.fullmatch(texts.get("limit", ""))) is not None:  # "burst:100;rate:10"
        size, per_s = times.number(bucket[1]), times.number(bucket[2])
        limit, window = size, size / per_s if size and per_s else window
    used = _longest_of(texts.get("used", ""), times.number)
    remaining = min(left) if left else None
    if remaining is None and used is not None and limit is not None:
        remaining = max(0.0, limit - used)
    return Budget(
        remaining=remaining,
        reset_s=reset,
        limit=limit,
        window_s=window,
        used=used,
        name=dimension,
        unit=unit_of(dimension),
        reset_at=times.moment_s(resets[0], server_s, form) if len(resets) == 1 else None,
    )
