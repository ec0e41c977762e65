"""throttled-py. Shapes: gcra, token_bucket, leaking_bucket, sliding_window, fixed_window. Tells: x (seconds)."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from throttled import Throttled, rate_limiter, store


def make(options: argparse.Namespace) -> Any:
    """Return the WSGI application."""
    throttle = Throttled(
        using=options.shape,
        quota=rate_limiter.per_duration(timedelta(seconds=options.window), options.limit, options.burst),
        store=store.MemoryStore(),
    )

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        result = throttle.limit("all")
        headers = []
        if options.tells == "x":
            headers += [
                ("X-RateLimit-Limit", str(result.state.limit)),
                ("X-RateLimit-Remaining", str(result.state.remaining)),
                ("X-RateLimit-Reset", str(math.ceil(result.state.reset_after))),
            ]
        if result.limited:
            if options.retry_after:
                headers.append(("Retry-After", str(math.ceil(result.state.retry_after))))
            start_response("429 Too Many Requests", [*headers, ("Content-Type", "text/plain")])
            return [b"Too Many Requests"]
        start_response("200 OK", [*headers, ("Content-Type", "application/json")])
        return [json.dumps({"id": int(environ["PATH_INFO"].rpartition("/")[2])}).encode()]

    return application
