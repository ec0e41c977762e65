"""The base of all stand-ins: a server in a thread, a request log, periodic refusals, rate windows and ETags."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import web

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0


@dataclass
class ReceivedRequest:
    """A received request and the status of its response (0 = not sent yet)."""

    at_s: float  # monotonic
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: str
    status: int = 0
    refused: bool = False  # by a limit, a lag or a lock; the client should retry

    @property
    def url(self) -> str:
        """The path and query, decoded and encoded again."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def get(self, name: str) -> str | None:
        """Return the value of a query parameter if it occurs exactly once."""
        values = [value for key, value in self.query if key == name]
        return values[0] if len(values) == 1 else None


class Window:
    """A fixed window per key that starts with its first request and allows `limit` requests in `window_s` seconds."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self._started_s: dict[str, float] = {}
        self._used: Counter[str] = Counter()

    def take(self, key: str = "", cost: int = 1) -> bool:
        """Count a request of this cost; return False if it exceeds the limit."""
        now = time.monotonic()
        if now - self._started_s.get(key, -self.window_s) >= self.window_s:
            self._started_s[key], self._used[key] = now, 0
        if self._used[key] + cost > self.limit:
            return False
        self._used[key] += cost
        return True

    def give_back(self, key: str = "") -> None:
        """Refund the last request."""
        self._used[key] -= 1

    def remaining(self, key: str = "") -> int:
        """Return how many more requests this window allows."""
        return self.limit - self._used[key]

    def left_s(self, key: str = "") -> float:
        """Return the seconds until the window ends."""
        return max(0.0, self._started_s.get(key, 0.0) + self.window_s - time.monotonic())


class Standin:
    """
    A server on a free loopback port, in its own thread, for the duration of the `with` block.

    Args:
        refuse_every: Every n-th request is refused in the way of this API; 0 = none.
        latency_s: The minimum time before each response.
        newest: The time of the newest record, in whole seconds; None = yesterday's midnight (UTC).
    """

    def __init__(
        self, *, refuse_every: int = 0, latency_s: float = 0.0, newest: datetime | None = None
    ) -> None:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.newest = newest or today - timedelta(days=1)
        self.refuse_every, self.latency_s = refuse_every, latency_s
        self.requests: list[ReceivedRequest] = []
        self.url = ""
        self.in_flight = self.max_in_flight = 0
        self.faults: list[Exception] = []  # errors in the stand-in itself
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._server = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._server.start()
        assert self._ready.wait(START_TIMEOUT_S), "the stand-in did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._server.join(START_TIMEOUT_S)
        if self.faults:
            raise self.faults[0]

    def _serve(self) -> None:
        async def serve() -> None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, HOST, 0).start()
            self.url = f"http://{HOST}:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

        self._loop.run_until_complete(serve())
        self._loop.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        one = ReceivedRequest(
            time.monotonic(),
            request.method,
            request.path,
            list(request.query.items()),
            {name.lower(): value for name, value in request.headers.items()},
            await request.text(),
        )
        self.requests.append(one)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
            if self.refuse_every and len(self.requests) % self.refuse_every == 0:
                one.refused = True
                response = self.refusal(one)
            else:
                response = self.respond(one)
        except Exception as error:
            self.faults.append(error)
            raise
        finally:
            self.in_flight -= 1
        one.status = response.status
        return response

    def respond(self, request: ReceivedRequest) -> web.Response:
        """Return the response of this API to a request."""
        raise NotImplementedError

    def refusal(self, request: ReceivedRequest) -> web.Response:
        """Return the response with which this API refuses a request temporarily."""
        raise NotImplementedError

    def clear_log(self) -> None:
        """Empty the request log."""
        self.requests.clear()
        self.max_in_flight = 0

    def accepted(self, path: str = "") -> list[ReceivedRequest]:
        """Return the requests that were not refused and whose path starts with `path`."""
        return [one for one in self.requests if not one.refused and one.path.startswith(path)]

    def repeated(self) -> dict[str, int]:
        """Return the requests that were accepted more than once, with their counts."""
        counts = Counter(f"{one.method} {one.url} {one.body}" for one in self.accepted())
        return {request: count for request, count in counts.items() if count > 1}


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a JSON response."""
    return web.json_response(body, status=status, headers=headers)


def conditional(request: ReceivedRequest, response: web.Response) -> web.Response:
    """Add a weak ETag of the body; return a 304 if the client sent that ETag (RFC 9110, section 13.1.2)."""
    body = response.body
    assert isinstance(body, bytes)
    etag = f'W/"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    response.headers["ETag"] = etag
    known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
    if etag not in known and "*" not in known:
        return response
    headers = {name: value for name, value in response.headers.items() if name.lower() not in CONTENT}
    return web.Response(status=304, headers=headers)


CONTENT = {"content-type", "content-length"}


def encode_cursor(value: Any) -> str:
    """Return an opaque cursor: padded base64, which a client must percent-encode in a query."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def decode_cursor(cursor: str) -> Any:
    """Return the content of a cursor. Raises ValueError."""
    return json.loads(base64.b64decode(cursor, validate=True))


def link_header(links: Iterable[tuple[str, str]]) -> str:
    """Return `(rel, url)` pairs as a Link header value (RFC 8288)."""
    return ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links)


def stamp(at: datetime) -> str:
    """Return an RFC 3339 timestamp in UTC, in whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def from_stamp(text: str) -> datetime:
    """Parse an RFC 3339 timestamp or a date. Raises ValueError."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def unknown_parameters(request: ReceivedRequest, known: Sequence[str]) -> list[str]:
    """Return the names of query parameters that are not in `known`."""
    return [name for name, _ in request.query if name not in known]


def parse_count(text: str | None, default: int) -> int:
    """Parse a non-negative integer of a query; return -1 for anything else."""
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdigit() else -1
