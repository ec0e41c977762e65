"""
`python chaos_target.py LATENCY_MS [PORT]`: a fast server without limits that records every request.

`/list/K` returns a hundred ids, `/things/ID` one record after LATENCY_MS. `/_log` returns when each path was requested
and when its response was sent (Unix seconds), `/_latency/MS` changes the latency. The first line on standard output is
the URL. The server ends with its standard input.
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
    """The server's log and its handlers."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.requested: dict[str, list[float]] = {}
        self.responded: dict[str, list[float]] = {}

    async def list(self, request: web.Request) -> web.Response:
        first = int(request.match_info["k"]) * PER_LIST
        return await self._respond(request, [{"id": first + n} for n in range(PER_LIST)], 0.0)

    async def thing(self, request: web.Request) -> web.Response:
        id_ = int(request.match_info["id"])
        return await self._respond(request, {"id": id_, "text": f"thing {id_} " * 8}, self.latency_s)

    async def _respond(self, request: web.Request, body: Any, after_s: float) -> web.Response:
        self.requested.setdefault(request.path, []).append(time.time())
        if after_s:
            await asyncio.sleep(after_s)
        self.responded.setdefault(request.path, []).append(time.time())
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def set_latency(self, request: web.Request) -> web.Response:
        self.latency_s = float(request.match_info["ms"]) / 1000
        return web.Response()

    async def get_log(self, _: web.Request) -> web.Response:
        body = orjson.dumps({"requested": self.requested, "responded": self.responded})
        return web.Response(body=body, content_type="application/json")


async def main(latency_ms: float, port: int) -> None:
    target = Target(latency_ms / 1000)
    app = web.Application()
    app.router.add_get("/list/{k}", target.list)
    app.router.add_get("/things/{id}", target.thing)
    app.router.add_get("/_latency/{ms}", target.set_latency)
    app.router.add_get("/_log", target.get_log)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
