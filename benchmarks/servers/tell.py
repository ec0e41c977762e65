"""How a server tells its limit: the header fields of one dialect, or none. Seconds are whole, rounded up."""

from __future__ import annotations

import math
import time

from benchmarks.servers.shapes import Verdict

DIALECTS = ("none", "x-delta", "x-epoch", "draft-6", "draft-7", "draft-8")


def fields(dialect: str, limit: int, window_s: float, verdict: Verdict) -> dict[str, str]:
    """The fields of an answer."""
    left, seconds = verdict.remaining, math.ceil(verdict.reset_s)
    policy = f"{limit};w={math.ceil(window_s)}"
    if dialect in ("x-delta", "x-epoch"):
        epoch = math.ceil(time.time() + verdict.reset_s)
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(epoch if dialect == "x-epoch" else seconds),
        }
    if dialect == "draft-6":
        return {
            "RateLimit-Policy": policy,
            "RateLimit-Limit": str(limit),
            "RateLimit-Remaining": str(left),
            "RateLimit-Reset": str(seconds),
        }
    if dialect == "draft-7":
        return {
            "RateLimit-Policy": policy,
            "RateLimit": f"limit={limit}, remaining={left}, reset={seconds}",
        }
    if dialect == "draft-8":
        return {
            "RateLimit-Policy": f'"default";q={limit};w={math.ceil(window_s)}',
            "RateLimit": f'"default";r={left};t={seconds}',
        }
    return {}
