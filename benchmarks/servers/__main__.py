"""
`python -m benchmarks.servers OPTIONS`: run one rate-limited server; its first line on stdout is JSON with the port.

/item/N   a record, if the limit of the requested host grants it; else 429
/list     `--records` records with a random rank, without a limit
/stats    counts per window, and the log of all requests
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

from benchmarks.servers import headers, shapes

FOREVER_S = 1e9
TICK_S = 0.01
STALL_S = 0.02  # a timer later than this shows that the machine stalled


@dataclass(slots=True)
class RequestRecord:
    """One request; times are seconds of the server's monotonic clock."""

    n: int
    host: str
    arrived_s: float
    decided_s: float
    accepted: bool
    wait_s: float  # until the limit opens, as the server knows it
    left_s: float = 0.0  # when it left the limit
    responded_s: float = 0.0  # when the response was sent


@dataclass
class Server:
    """The application, with a limit for each requested host name."""

    options: argparse.Namespace
    log: list[RequestRecord] = field(default_factory=list)
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
        admission = limit.admit(now_s)
        record = RequestRecord(
            int(request.match_info["n"]),
            host,
            arrived_s,
            now_s,
            admission.accepted,
            0.0 if admission.accepted else admission.reset_s,
        )
        self.log.append(record)
        o = self.options
        fields = headers.fields(o.tells, o.limit, o.window, admission)
        if admission.accepted:
            if o.service:
                await asyncio.sleep(o.service)
            record.left_s = time.monotonic()
            limit.leave(record.left_s)
            response = web.json_response({"id": record.n, "host": host}, headers=fields)
        else:
            if o.retry_after:
                fields["Retry-After"] = str(math.ceil(admission.reset_s))
            response = web.json_response({"error": "too many requests"}, status=429, headers=fields)
        await self._travel()
        record.responded_s = time.monotonic()
        return response

    async def _travel(self) -> None:
        """Simulate a random travel time through the network."""
        if self.options.way_ms:
            await asyncio.sleep(self._random.uniform(0, self.options.way_ms / 1000))

    async def watch(self) -> None:
        """Measure how long the machine stalled: timers are late by that."""
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
        for record in self.log:
            counts = windows.setdefault(int((record.decided_s - first_s) // self.options.window), [0, 0])
            counts[0 if record.accepted else 1] += 1
        return web.json_response(
            {
                "windows": [
                    {"window": n, "accepted": a, "refused": r} for n, (a, r) in sorted(windows.items())
                ],
                "stalled_s": self.stalled_s,
                "log": [asdict(record) for record in self.log],
            }
        )


def parser() -> argparse.ArgumentParser:
    """Return the parser of a server's options."""
    made = argparse.ArgumentParser(prog="benchmarks.servers", description=__doc__)
    made.add_argument("--shape", default="fixed")
    made.add_argument("--limit", type=int, default=30, help="requests per window, or at once")
    made.add_argument("--window", type=float, default=3.0, help="seconds")
    made.add_argument("--burst", type=int, default=10, help="size of a token bucket")
    made.add_argument(
        "--tells", choices=headers.DIALECTS, default="none", help="header fields of every response"
    )
    made.add_argument("--retry-after", action="store_true", help="send Retry-After with a 429")
    made.add_argument("--way-ms", type=float, default=0.0, help="longest travel time in each direction")
    made.add_argument("--service", type=float, default=0.0, help="seconds to process a request")
    made.add_argument(
        "--closed", type=float, default=FOREVER_S, help="shape closed: seconds that it stays closed"
    )
    made.add_argument("--again", type=float, default=1.0, help="shape closed: the wait that it states")
    made.add_argument("--hosts", type=int, default=1, help="listen on 127.0.0.1 to 127.0.0.HOSTS")
    made.add_argument("--parked-host", default="", help="this host gets a closed limit")
    made.add_argument("--records", type=int, default=0, help="number of records in /list")
    made.add_argument("--seed", type=int, default=1)
    return made


async def serve(options: argparse.Namespace) -> None:
    """Serve until stdin is closed."""
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
    for number in range(
        2, options.hosts + 1
    ):  # on Linux, all of 127/8 are local hosts, without a name service
        await web.TCPSite(runner, f"127.0.0.{number}", port).start()
    print(json.dumps({"port": port}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    watching.cancel()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(parser().parse_args()))
