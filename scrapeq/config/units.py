"""Parses durations and sizes such as `1h30m` and `64MB`; errors suggest the right spelling."""

from __future__ import annotations

import re

from scrapeq.expression.tokens import UNIT_S, duration_s, is_duration

DURATION_PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"
SIZE_PATTERN = r"^\d+(\.\d+)?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$"

_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|[KMGT]B|[KMGT]iB)", re.ASCII)
_LOOSE_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b|bytes?)?", re.ASCII | re.IGNORECASE)
_CLOCK = re.compile(r"\d+:\d\d(?::\d\d)?", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_MONTHS = re.compile(r"\d+(?:\.\d+)?\s*(?:M|mo|months?|y|Y|years?)", re.ASCII)
_WORDS = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)[\s,]*(?:and\s+)?", re.ASCII | re.IGNORECASE)
_ISO = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)
_UNIT_WORDS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds", "msec"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
}
_WEEK = re.compile(r"(\d+)\s*w(?:eeks?)?", re.ASCII)
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class UnitError(ValueError):
    """A text that is not a duration or size; the message says what to write."""


def read_duration(text: str) -> float:
    """Return the seconds of a duration such as `500ms`, `30s`, `1h30m` or `7d`. Raises UnitError."""
    if is_duration(text):
        return float(duration_s(text))
    if _NUMBER.fullmatch(text):
        raise UnitError(f"{text} has no unit: {text}s, {text}m or {text}h?")
    if _CLOCK.fullmatch(text):
        first, second, *third = text.split(":")
        if third:
            raise UnitError(f"'{text}' is not a duration: write {int(first)}h{int(second)}m{int(third[0])}s")
        minutes, rest = int(first), int(second)
        raise UnitError(f"'{text}' is not a duration: {minutes}m{rest}s or {minutes}h{rest}m?")
    if _MONTHS.fullmatch(text):
        raise UnitError("months and years have no fixed length; write days")
    if week := _WEEK.fullmatch(text):
        raise UnitError(f"'{text}' is not a duration: write {int(week[1][:6]) * 7}d")
    if written := normalized_duration(text):
        raise UnitError(f"'{text}' is not a duration: write {written}")
    raise UnitError(f"'{text}' is not a duration: 500ms, 30s, 1h30m or 7d")


def normalized_duration(text: str) -> str:
    """Return `1h30m` for `1 hour and 30 minutes` or `PT1H30M`; empty for other text."""
    if iso := _ISO.fullmatch(text):
        parts = zip(iso.groups(), "dhms", strict=True)
        return "".join(f"{number}{unit}" for number, unit in parts if number)
    if _WORDS.sub("", text).strip():
        return ""
    found = [(number, _UNIT_WORDS.get(word.lower(), "")) for number, word in _WORDS.findall(text)]
    if not all(unit in UNIT_S for _, unit in found):
        return ""
    return "".join(number + unit for number, unit in found)


def read_size(text: str) -> int:
    """Return the bytes of a size such as `512B`, `64MB` or `2GiB` (MB = 10^6, MiB = 2^20). Raises UnitError."""
    if found := _SIZE.fullmatch(text):
        unit = found[2]
        base = 1024 if "i" in unit else 1000
        return int(float(found[1]) * base ** _POWER[unit.rstrip("B").rstrip("i")])
    if _NUMBER.fullmatch(text):
        raise UnitError(f"{text} has no unit: {text}B, {text}KB or {text}MB?")
    loose = _LOOSE_SIZE.fullmatch(text)
    if loose:
        raise UnitError(f"'{text}' is not a size: write {loose[1]}{loose[2].upper()}{loose[3].lower()}B")
    raise UnitError(f"'{text}' is not a size: 512B, 64MB or 2GiB")


def write_duration(seconds: float) -> str:
    """Return seconds as a duration: `1h30m` for 5400. The inverse of `read_duration`."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    rest, parts = int(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(UNIT_S[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
