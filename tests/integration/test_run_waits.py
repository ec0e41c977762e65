"""The real command reads waits in the forms that servers really send, and obeys them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

CONFIG = """\
version: 1
name: waits
client: {base_url: "URL"}
rate_limits:
  - {name: epoch, match: {path: "/epoch/**"}, max_concurrency: 1}
  - {name: after, match: {path: "/after/**"}, max_concurrency: 1}
  - {name: spent, match: {path: "/spent/**"}, max_concurrency: 1}
  - {name: every, match: {path: "/every/**"}, max_concurrency: 1}
  - {name: years, match: {path: "/years/**"}, max_concurrency: 1}
resource_defaults: {primary_key: id}
seeds: [{n: 1}, {n: 2}, {n: 3}, {n: 4}]
resources:
  - {name: epoch, endpoint: "epoch/${seed.n}"}
  - {name: after, endpoint: "after/${seed.n}"}
  - {name: spent, endpoint: "spent/${seed.n}"}
  - {name: every, endpoint: "every/${seed.n}"}
  - {name: years, endpoint: "years/${seed.n}"}
  - {name: unlimited, endpoint: "unlimited/${seed.n}"}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
WAIT_S = 2
BUDGET = [("X-RateLimit-Limit", "50"), ("X-RateLimit-Remaining", "40"), ("X-RateLimit-Reset", "60")]


def _headers(name: str, number: int) -> tuple[int, list[tuple[str, str]]]:
    """Return status and headers of the response to the nth request of a resource."""
    if name == "epoch" and number == 2:
        return 429, [("Retry-After", str(int(time.time()) + WAIT_S + 1))]
    if name == "after" and number == 2:
        return 200, [("Retry-After", f"{WAIT_S}s")]
    if name == "spent" and number == 2:
        return 200, [("RateLimit-Policy", f'"p";q=2;w={WAIT_S}'), ("RateLimit", '"p";r=0')]
    if name == "every":  # as Flask-Limiter and others do: the end of the window, with every response
        return 200, [*BUDGET, ("Retry-After", "60")]
    if name == "years" and number == 4:
        return 200, [("Retry-After", "99999999")]
    if name == "unlimited":
        limit = "-1" if number % 2 else "0"
        return 200, [
            ("X-RateLimit-Limit", limit),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", "3600"),
        ]
    return 200, []


async def test_waits_are_read_in_the_forms_that_servers_send(tmp_path: Path) -> None:
    """Unix times, units, a spent policy and a wait on a success are obeyed; -1 and 0 of 0 limit nothing."""
    times: dict[str, list[float]] = defaultdict(list)

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        name = request.path.split("/")[1]
        times[name].append(time.monotonic())
        status, headers = _headers(name, len(times[name]))
        body = orjson.dumps([{"id": request.path}])
        writer.write(response(status, body, ("Content-Type", "application/json"), *headers))

    async with serving(respond) as server:
        (tmp_path / "waits.yaml").write_text(CONFIG.replace("URL", server.url))
        command = Command(tmp_path, "waits.yaml")
        output = await asyncio.to_thread(command.run, "--workers", "1")
    for name in ("epoch", "after", "spent", "every", "years", "unlimited"):
        assert len(command.jsonl(f"out/{name}.jsonl")) == 4, name
    for name in ("epoch", "after", "spent"):
        assert WAIT_S <= times[name][2] - times[name][1] < 4 * WAIT_S, name
    for name in ("every", "unlimited"):
        assert times[name][-1] - times[name][0] < WAIT_S, name
    assert output.count("check  years: the server states a wait of 3 years") == 1
