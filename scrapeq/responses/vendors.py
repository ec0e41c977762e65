"""Parse what is specific to one vendor: header fields without a common format, and waits in a response body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from scrapeq.page import Page
from scrapeq.responses import times
from scrapeq.responses.budgets import RATE_FIELD, Budget, Fields

_SHOPIFY_FIELD = "x-shopify-shop-api-call-limit"
_SHOPIFY_EMPTIES_S = 20.0  # the bucket of every plan drains in this time: 40 at 2/s, 80 at 4/s, 400 at 20/s
_SLASHED = re.compile(r"([0-9]+)\s*/\s*([0-9]+)", re.ASCII)
_BINANCE_FIELD = re.compile(r"x-(?:mbx|sapi)-(?:used|order)-[a-z-]*?-?(\d{1,4})([smhd])", re.ASCII)
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_COINGLASS_WINDOW_S = 60.0
MAX_EPOCH = 1e19  # larger numbers are not Unix times, not even in nanoseconds
_MAX_BODY = 64_000  # bytes; the body of a refusal is an error message, not a page of records
# decimals of the interval of one token: the rate itself has two to four digits
_RATE_DIGITS = 2


def budgets(fields: Fields) -> list[Budget]:
    """Return the budgets of fields whose names or values do not follow a common format."""
    found = [_shopify(text) for text in fields.values.get(_SHOPIFY_FIELD, ())]
    found += [_coinglass(fields)]
    found += [
        Budget(
            used=times.number(texts[0]),
            window_s=int(name[1]) * _UNIT_S[name[2]],
            unit="" if "order" in name[0] else "weight",
        )
        for field, texts in fields.values.items()
        if (name := _BINANCE_FIELD.fullmatch(field)) is not None
    ]
    rate = fields.longest(RATE_FIELD, times.number)
    if rate:
        found.append(Budget(limit=rate, window_s=1.0))
    return [budget for budget in found if budget != Budget()]


def _shopify(text: str) -> Budget:
    """Parse `32/40`, a leaky bucket: it never resets, so `reset_s` is the time until the next request fits."""
    both = _SLASHED.fullmatch(text)
    if both is None or not int(both[2]):
        return Budget()
    used, size = float(both[1]), float(both[2])
    return Budget(
        remaining=max(0.0, size - used),
        reset_s=times.capped(_SHOPIFY_EMPTIES_S / size),
        limit=size,
        window_s=_SHOPIFY_EMPTIES_S,
        used=used,
    )


def _coinglass(fields: Fields) -> Budget:
    limit = fields.longest("api-key-max-limit", times.number)
    used = fields.longest("api-key-use-limit", times.number)
    if limit is None:
        return Budget()
    left = None if used is None else max(0.0, limit - used)
    return Budget(left, None, limit, _COINGLASS_WINDOW_S, used)


def one_token_s(fields: Fields) -> float | None:
    """A rate per second: one token takes 1/rate seconds (two digits, as fine as the field itself is)."""
    rate = fields.longest(RATE_FIELD, times.number)
    return times.capped(round(1 / rate, _RATE_DIGITS)) if rate else None


def sentry_s(fields: Fields) -> float | None:
    """`60:error:organization, 2700:transaction` -> the longest."""

    def seconds(text: str) -> float | None:
        value = times.number(text.split(":")[0].strip())
        return None if value is None else times.capped(value)

    return fields.longest("x-sentry-rate-limits", seconds)


def body_wait_s(page: Page, server_s: float) -> float | None:
    """
    Return the wait in the JSON body of a refusal, in seconds, or None. Unix times are compared with `server_s`.

    Known are `retry_after` (Discord; Telegram under `parameters`), `retry_after_ms` (Matrix), and `retryDelay` of a
    google.rpc.RetryInfo in the details of an error.
    """
    if len(page.body) > _MAX_BODY or not (b"retry_after" in page.body or b"retryDelay" in page.body):
        return None
    try:
        body = page.json()
    except (ValueError, RecursionError):
        return None
    if isinstance(body, list) and body:  # Google's streaming APIs wrap the error in a list
        body = body[0]
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    objects = [one for one in (body, body.get("parameters"), error) if isinstance(one, Mapping)]
    waits = [_seconds(one.get("retry_after"), server_s=server_s) for one in objects]
    waits += [_seconds(one.get("retry_after_ms"), 1000) for one in objects]
    details = error.get("details") if isinstance(error, Mapping) else body.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping) and isinstance(delay := detail.get("retryDelay"), str):
            waits.append(times.duration_s(delay))
    return max((times.capped(wait) for wait in waits if wait is not None), default=None)


def _seconds(value: Any, per_s: int = 1, server_s: float | None = None) -> float | None:
    if server_s is not None and isinstance(value, str):
        return times.until_s(value, server_s)
    if server_s is not None and isinstance(value, int | float) and value >= times.EPOCH_S_FROM:
        value = times.until_s(f"{value:.3f}", server_s) if value < MAX_EPOCH else times.OVERFLOW_S
    if isinstance(value, str):
        read = times.number(value)
        return None if read is None else read / per_s
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return min(float(value) if value < times.OVERFLOW_S * per_s else times.OVERFLOW_S * per_s, 1e300) / per_s
