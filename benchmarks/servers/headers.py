"""The header fields by which a server reports its limit, in several dialects. Seconds are rounded up."""

from __future__ import annotations

import math
import time

from benchmarks.servers.shapes import Admission

DIALECTS = ("none", "x-delta", "x-epoch", "draft-6", "draft-7", "draft-8")


def fields(dialect: str, limit: int, window_s: float, admission: Admission) -> dict[str, str]:
    """Return the header fields of a response."""
    left, seconds = admission.remaining, math.ceil(admission.reset_s)
    policy = f"{limit};w={math.ceil(window_s)}"
    if dialect in ("x-delta", "x-epoch"):
        epoch = math.ceil(time.time() + admission.reset_s)
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
