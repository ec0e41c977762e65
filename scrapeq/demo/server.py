"""The sample API's server: routes, pages, ETags, the rate limit, and statistics."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

import orjson
from aiohttp import web

from scrapeq.demo.dataset import Dataset, Record
from scrapeq.demo.window import FixedWindow

DEFAULT_LIMIT = 40
DEFAULT_WINDOW_S = 2.0
DEFAULT_LATENCY_MS = (5.0, 20.0)
DEFAULT_PER_PAGE = 30
MAX_PER_PAGE = 100
MAX_DIGITS = 10
HOST = "127.0.0.1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One request and the status of its response; `at_s` counts seconds from the server's start."""

    at_s: float
    path: str
    status: int


class DemoServer:
    """
    The sample API on a loopback port, as an async context manager.

        async with DemoServer(limit=10, window_s=1.0) as server:
            ...  # GET server.url + "/repos/octo/tools/issues"

    `GET /_stats` returns the counts, `GET /_log` every request in order; the limit does not apply to them.
    A 304 counts like any other response.

    Args:
        limit: Requests granted per window.
        window_s: Length of a window, seconds; with whole seconds the advertised reset is exact.
        latency_ms: Least and greatest delay of a response; the path determines the delay, not chance.
        scale: A factor for the number of issues.
        seed: The same seed gives the same records.
        port: The port to listen on; 0 = any free port.
        now_s: The wall clock, Unix seconds.
    """

    def __init__(
        self,
        *,
        limit: int = DEFAULT_LIMIT,
        window_s: float = DEFAULT_WINDOW_S,
        latency_ms: tuple[float, float] = DEFAULT_LATENCY_MS,
        scale: float = 1.0,
        seed: int = 1,
        port: int = 0,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.window = FixedWindow(limit, window_s, now_s)
        self.dataset = Dataset(seed, scale)
        self.url = ""
        self.log: list[LogEntry] = []
        self._latency_ms = latency_ms
        self._port = port
        self._started_s = time.monotonic()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._limited])
        app.router.add_get("/repos/{owner}/{repo}/issues", self._issues)
        app.router.add_get("/repos/{owner}/{repo}/issues/{number}/comments", self._comments)
        app.router.add_get("/_stats", self._stats)
        app.router.add_get("/_log", self._get_log)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self._port)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://{HOST}:{port}"
        self._started_s = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def stats(self) -> dict[str, Any]:
        """Return the total counts and those of each window."""
        windows = self.window.windows()
        return {
            "limit": self.window.limit,
            "window_s": self.window.window_s,
            "requests": len(self.log),
            "refused": sum(int(window["refused"]) for window in windows),
            "closings": sum(window["granted"] >= self.window.limit for window in windows),
            "windows": windows,
        }

    @web.middleware
    async def _limited(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_"):
            return await handler(request)
        admission = self.window.take()
        index = len(self.log)
        at_s = round(time.monotonic() - self._started_s, 4)
        self.log.append(LogEntry(at_s, request.path_qs, 0))
        await asyncio.sleep(self._delay_s(request.path_qs))
        if admission.granted:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = _json_response({"message": error.reason}, status=error.status)
        else:
            response = _json_response({"message": "API rate limit exceeded"}, status=429)
        response.headers.update(admission.headers())
        self.log[index] = LogEntry(at_s, request.path_qs, response.status)
        return response

    def _delay_s(self, path: str) -> float:
        low, high = self._latency_ms
        share = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=2).digest()) / 65535
        return (low + (high - low) * share) / 1000

    async def _issues(self, request: web.Request) -> web.StreamResponse:
        records = self.dataset.issues(request.match_info["owner"], request.match_info["repo"])
        if records is None:
            return _json_response({"message": "Not Found"}, status=404)
        state = _choice(request, "state", ("open", "closed", "all"))
        sort = _choice(request, "sort", ("created", "updated"))
        direction = _choice(request, "direction", ("desc", "asc"))
        matching = [record for record in records if state in ("all", record["state"])]
        matching.sort(key=lambda record: (record[f"{sort}_at"], record["id"]), reverse=direction == "desc")
        return _page_response(request, matching)

    async def _comments(self, request: web.Request) -> web.StreamResponse:
        number = request.match_info["number"]
        records = None
        if number.isascii() and number.isdigit():
            records = self.dataset.comments(
                request.match_info["owner"], request.match_info["repo"], int(number)
            )
        if records is None:
            return _json_response({"message": "Not Found"}, status=404)
        return _page_response(request, records)

    async def _stats(self, request: web.Request) -> web.StreamResponse:
        return _json_response(self.stats())

    async def _get_log(self, request: web.Request) -> web.StreamResponse:
        return _json_response(
            [{"at_s": entry.at_s, "path": entry.path, "status": entry.status} for entry in self.log]
        )


def _json_response(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", charset="utf-8"
    )


def _choice(request: web.Request, name: str, known: tuple[str, ...]) -> str:
    """Return a query parameter that must be one of `known`; the first is the default."""
    value = request.query.get(name, known[0])
    if value not in known:
        raise web.HTTPUnprocessableEntity(reason=f"{name} must be one of {', '.join(known)}")
    return value


def _positive_number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < MAX_DIGITS and int(text) > 0):
        raise web.HTTPUnprocessableEntity(reason=f"{name} must be a whole number, 1 or more")
    return int(text)


def _page_response(request: web.Request, records: list[Record]) -> web.StreamResponse:
    """Return one page, with the Link header (RFC 8288) and an ETag (RFC 9110, 8.8.3)."""
    per_page = min(_positive_number(request, "per_page", DEFAULT_PER_PAGE), MAX_PER_PAGE)
    page = _positive_number(request, "page", 1)
    last = max(1, -(-len(records) // per_page))
    response = _json_response(records[(page - 1) * per_page : page * per_page])
    body = response.body
    assert isinstance(body, bytes)
    etag = f'W/"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    links: dict[str, int] = {}
    if page > 1:
        links = {"prev": min(page - 1, last), "first": 1}
    if page < last:
        links |= {"next": page + 1, "last": last}
    headers = {"ETag": etag, "Cache-Control": "private, max-age=0"}
    if links:
        headers["Link"] = ", ".join(
            f'<{_page_url(request, number)}>; rel="{rel}"' for rel, number in links.items()
        )
    client_etags = {tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")}
    if etag in client_etags or "*" in client_etags:
        return web.Response(status=304, headers=headers)
    response.headers.update(headers)
    return response


def _page_url(request: web.Request, page: int) -> str:
    query = {**request.query, "page": str(page)}
    return f"http://{request.host}{request.path}?{urlencode(query)}"
