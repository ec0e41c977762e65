"""
`python -m benchmarks.servers OPTIONS`: one rate-limited server; the first line on stdout is JSON with its port.

/item/N   a record, if the limit of the host that was asked grants it; else 429
/list     `--records` records with a random rank, never limited
/stats    what was counted: counts a window, and the log of all requests
It ends when stdin is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from aiohttp import web

from benchmarks.servers import shapes, tell

FOREVER_S = 1e9
TICK_S = 0.01
STALL_S = 0.02  # a timer that is later than this was not run


@dataclass(slots=True)
class Seen:
    """One request: times are seconds of the server's monotonic clock."""

    n: int
    host: str
    arrived_s: float
    decided_s: float
    accepted: bool
    wait_s: float  # until the limit opens, as the server knows it
    left_s: float = 0.0  # when it left the limit
    answered_s: float = 0.0  # when the answer was there


@dataclass
class Server:
    """The application; a limit for each host name that is asked."""

    options: argparse.Namespace
    log: list[Seen] = field(default_factory=list)
    stalled_s: float = 0.0
    _limits: dict[str, shapes.Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.options.seed)
        ranks = random.Random(self.options.seed)
        self.records = [{"id": n, "rank": ranks.uniform(-1e9, 1e9)} for n in range(self.options.records)]

    def _shape(self, host: str) -> shapes.Shape:
        o = self.options
        if host == o.parked_host:
            return shapes.Closed(o.closed, o.again)
        makers: dict[str, Callable[[], shapes.Shape]] = {
            "open": shapes.Open,
            "fixed": lambda: shapes.FixedWindow(o.limit, o.window),
            "aligned": lambda: shapes.FixedWindow(o.limit, o.window, aligned=True),
            "sliding-log": lambda: shapes.SlidingLog(o.limit, o.window),
            "two-bucket": lambda: shapes.TwoBucket(o.limit, o.window),
            "token-bucket": lambda: shapes.TokenBucket(o.limit, o.window, o.burst),
            "concurrency": lambda: shapes.Concurrency(o.limit),
            "closed": lambda: shapes.Closed(o.closed, o.again),
        }
        return makers[o.shape]()

    async def item(self, request: web.Request) -> web.Response:
        arrived_s = time.monotonic()
        host = request.host.partition(":")[0]
        limit = self._limits.get(host) or self._limits.setdefault(host, self._shape(host))
        await self._travel()
        now_s = time.monotonic()
        verdict = limit.admit(now_s)
        seen = Seen(
            int(request.match_info["n"]),
            host,
            arrived_s,
            now_s,
            verdict.accepted,
            0.0 if verdict.accepted else verdict.reset_s,
        )
        self.log.append(seen)
        o = self.options
        headers = tell.fields(o.tells, o.limit, o.window, verdict)
        if verdict.accepted:
            if o.service:
                await asyncio.sleep(o.service)
            seen.left_s = time.monotonic()
            limit.leave(seen.left_s)
            answer = web.json_response({"id": seen.n, "host": host}, headers=headers)
        else:
            if o.retry_after:
                headers["Retry-After"] = str(math.ceil(verdict.reset_s))
            answer = web.json_response({"error": "too many requests"}, status=429, headers=headers)
        await self._travel()
        seen.answered_s = time.monotonic()
        return answer

    async def _travel(self) -> None:
        """A way through the network, of a length that differs."""
        if self.options.way_ms:
            await asyncio.sleep(self._random.uniform(0, self.options.way_ms / 1000))

    async def watch(self) -> None:
        """How long this machine ran nothing of ours: a timer is late by that."""
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(TICK_S)
            late_s = time.monotonic() - before_s - TICK_S
            if self.log and late_s > STALL_S:
                self.stalled_s += late_s

    async def list(self, request: web.Request) -> web.Response:
        return web.json_response(self.records)

    async def stats(self, request: web.Request) -> web.Response:
        windows: dict[int, list[int]] = {}
        first_s = self.log[0].decided_s if self.log else 0.0
        for seen in self.log:
            counts = windows.setdefault(int((seen.decided_s - first_s) // self.options.window), [0, 0])
            counts[0 if seen.accepted else 1] += 1
        return web.json_response(
            {
                "windows": [
                    {"window": n, "accepted": a, "refused": r} for n, (a, r) in sorted(windows.items())
                ],
                "stalled_s": self.stalled_s,
                "log": [asdict(seen) for seen in self.log],
            }
        )


def parser() -> argparse.ArgumentParser:
    """The options of a server."""
    made = argparse.ArgumentParser(prog="benchmarks.servers", description=__doc__)
    made.add_argument("--shape", default="fixed")
    made.add_argument("--limit", type=int, default=30, help="requests a window, or at once")
    made.add_argument("--window", type=float, default=3.0, help="seconds")
    made.add_argument("--burst", type=int, default=10, help="size of a token bucket")
    made.add_argument("--tells", choices=tell.DIALECTS, default="none", help="the fields of every answer")
    made.add_argument("--retry-after", action="store_true", help="a 429 says when to come back")
    made.add_argument("--way-ms", type=float, default=0.0, help="longest way to the server, and back from it")
    made.add_argument("--service", type=float, default=0.0, help="seconds that an answer takes")
    made.add_argument("--closed", type=float, default=FOREVER_S, help="closed: for how many seconds")
    made.add_argument("--again", type=float, default=1.0, help="closed: the wait that it tells")
    made.add_argument("--hosts", type=int, default=1, help="listen on 127.0.0.1 to 127.0.0.HOSTS")
    made.add_argument("--parked-host", default="", help="the limit of this host is a closed one")
    made.add_argument("--records", type=int, default=0, help="records of /list")
    made.add_argument("--seed", type=int, default=1)
    return made


async def serve(options: argparse.Namespace) -> None:
    """Serve until stdin ends."""
    server = Server(options)
    app = web.Application()
    app.add_routes(
        [
            web.get("/item/{n}", server.item),
            web.get("/list", server.list),
            web.get("/stats", server.stats),
        ]
    )
    watching = asyncio.create_task(server.watch())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    for number in range(2, options.hosts + 1):  # Linux answers on all of 127/8: hosts without a name service
        await web.TCPSite(runner, f"127.0.0.{number}", port).start()
    print(json.dumps({"port": port}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    watching.cancel()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(parser().parse_args()))
