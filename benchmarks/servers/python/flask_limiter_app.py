"""Flask-Limiter. Shapes: fixed-window (by the clock), moving-window, sliding-window-counter. Tells: x (Unix time)."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

from flask import Flask, Response, jsonify
from flask_limiter import Limiter


def make(options: argparse.Namespace) -> Any:
    """Return the WSGI application."""
    app = Flask("limited")
    limiter = Limiter(
        lambda: "all",
        app=app,
        default_limits=[f"{options.limit} per {int(options.window)} second"],
        strategy=options.shape,
        storage_uri="memory://",
        headers_enabled=options.tells == "x",
    )

    @app.get("/item/<int:n>")
    def item(n: int) -> Response:
        return jsonify(id=n)

    @app.errorhandler(429)
    def refused(_: Exception) -> Response:
        response = Response("Too Many Requests", status=429)
        current = limiter.current_limit
        if options.retry_after and options.tells == "none" and current is not None:
            response.headers["Retry-After"] = str(max(1, math.ceil(current.reset_at - time.time())))
        return response

    return app
