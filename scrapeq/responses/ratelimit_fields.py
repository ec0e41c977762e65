"""Parse the IETF's RateLimit fields: draft-ietf-httpapi-ratelimit-headers 01 to 10, structured fields (RFC 9651)."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import http_sf

from scrapeq.responses import times
from scrapeq.responses.budgets import Budget, Fields, Policy

_NO_POLICY = Policy(0.0)
_REQUEST_UNITS = frozenset({"", "requests", "request"})


def _structured(text: str, kind: str) -> object:
    if not text:
        return None
    try:
        return http_sf.parse(text.encode("latin-1", "replace"), tltype=kind)
    except (ValueError, RecursionError):  # malformed fields must be ignored (RFC 9651, 4.2)
        return None


def _members(text: str) -> list[tuple[object, dict[str, object]]]:
    found = _structured(text, "list")
    if not isinstance(found, list):
        return []
    return [(item[0], item[1]) for item in found if isinstance(item, tuple) and not isinstance(item[0], list)]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _unit(unit: object) -> str:
    text = str(unit)
    return "" if text in _REQUEST_UNITS else text


def _key(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else ""


def policies(fields: Fields) -> tuple[Policy, ...]:
    """Return the policies of RateLimit-Policy, in both its forms, and the quota policies of RateLimit-Limit."""
    found: list[Policy] = []
    for name in ("ratelimit-policy", "ratelimit-limit"):
        for value, parameters in _members(fields.joined(name)):
            window = _count(parameters.get("w"))
            if isinstance(value, int):
                limit, label = _count(value), ""
            else:
                limit, label = _count(parameters.get("q")), str(value)
            if limit is None or (name == "ratelimit-limit" and window is None):
                continue
            found.append(
                Policy(
                    float(limit),
                    None if window is None else float(window),
                    label,
                    _unit(parameters.get("qu", "")),
                    _key(parameters.get("pk")),
                )
            )
    return tuple(found)


def budgets(fields: Fields, declared: Sequence[Policy]) -> list[Budget]:
    """Return the budgets of RateLimit: draft 07 (a Dictionary) and drafts 08 to 10 (a List)."""
    text = fields.joined("ratelimit")
    table = _structured(text, "dictionary")
    if isinstance(table, dict) and "remaining" in table:
        read = {key: _count(value[0]) for key, value in table.items() if isinstance(value, tuple)}
        remaining, reset, limit = read.get("remaining"), read.get("reset"), read.get("limit")
        if remaining is None or reset is None:
            return []
        same = [policy for policy in declared if limit is None or policy.limit == limit]
        return [
            Budget(remaining, times.capped(reset), limit, next((p.window_s for p in same or declared), None))
        ]
    found: list[Budget] = []
    by_name = {policy.name: policy for policy in declared if policy.name}
    members = _members(text)
    for value, parameters in members:
        remaining, stated = _count(parameters.get("r")), _count(parameters.get("t"))
        if (
            not isinstance(value, str | http_sf.Token)
            or remaining is None
            or ("t" in parameters and stated is None)
        ):
            continue
        policy = by_name.get(str(value))
        if stated is None and not remaining:  # spent, with the time left out: its window ends by then
            only = declared[0] if len(declared) == len(members) == 1 else _NO_POLICY
            ends_s = (policy or only).window_s
        else:
            ends_s = stated
        found.append(
            Budget(
                remaining,
                None if ends_s is None else times.capped(ends_s),
                policy.limit if policy else None,
                policy.window_s if policy else None,
                name=str(value),
                key=_key(parameters.get("pk")) or (policy or _NO_POLICY).key,
                unit=(policy or _NO_POLICY).unit,
            )
        )
    return found
