"""
`python chaos_target.py LATENCY_MS [PORT]`: a fast server without limits that remembers each request.

`/list/K` tells a hundred ids, `/things/ID` one record after LATENCY_MS, `/_seen` when each path was asked for
(seconds since the epoch) and when it was answered, `/_latency/MS` changes it. The first
line on standard output is its URL. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import orjson
from aiohttp import web

PER_LIST = 100


class Target:
    """The server's memory and its handlers."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.asked: dict[str, list[float]] = {}
        self.answered: dict[str, list[float]] = {}

    async def list(self, request: web.Request) -> web.Response:
        first = int(request.match_info["k"]) * PER_LIST
        return await self._answer(request, [{"id": first + n} for n in range(PER_LIST)], 0.0)

    async def thing(self, request: web.Request) -> web.Response:
        id_ = int(request.match_info["id"])
        return await self._answer(request, {"id": id_, "text": f"thing {id_} " * 8}, self.latency_s)

    async def _answer(self, request: web.Request, body: Any, after_s: float) -> web.Response:
        self.asked.setdefault(request.path, []).append(time.time())
        if after_s:
            await asyncio.sleep(after_s)
        self.answered.setdefault(request.path, []).append(time.time())
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def slow(self, request: web.Request) -> web.Response:
        self.latency_s = float(request.match_info["ms"]) / 1000
        return web.Response()

    async def seen(self, _: web.Request) -> web.Response:
        body = orjson.dumps({"asked": self.asked, "answered": self.answered})
        return web.Response(body=body, content_type="application/json")


async def main(latency_ms: float, port: int) -> None:
    target = Target(latency_ms / 1000)
    app = web.Application()
    app.router.add_get("/list/{k}", target.list)
    app.router.add_get("/things/{id}", target.thing)
    app.router.add_get("/_latency/{ms}", target.slow)
    app.router.add_get("/_seen", target.seen)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
