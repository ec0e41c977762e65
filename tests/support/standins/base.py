"""What all stand-ins share: a server in a thread, a log of all requests, refusals now and then, windows, ETags."""

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
class Asked:
    """One request, and the status that it was answered with (0 = not yet)."""

    at_s: float  # monotonic
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: str
    status: int = 0
    refused: bool = False  # by a limit, a lag or a lock: to be asked again

    @property
    def url(self) -> str:
        """Path and query as they came, decoded and put together again."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def get(self, name: str) -> str | None:
        """The value of a parameter, if it is there once."""
        values = [value for key, value in self.query if key == name]
        return values[0] if len(values) == 1 else None


class Window:
    """A fixed window that begins with its first request: `limit` in `window_s` seconds, for each key."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self._began_s: dict[str, float] = {}
        self._used: Counter[str] = Counter()

    def take(self, key: str = "", cost: int = 1) -> bool:
        """Count a request; False when it is one too many."""
        now = time.monotonic()
        if now - self._began_s.get(key, -self.window_s) >= self.window_s:
            self._began_s[key], self._used[key] = now, 0
        if self._used[key] + cost > self.limit:
            return False
        self._used[key] += cost
        return True

    def give_back(self, key: str = "") -> None:
        """The last request costs nothing after all."""
        self._used[key] -= 1

    def remaining(self, key: str = "") -> int:
        """How many more are granted in this window."""
        return self.limit - self._used[key]

    def left_s(self, key: str = "") -> float:
        """Seconds until the window ends."""
        return max(0.0, self._began_s.get(key, 0.0) + self.window_s - time.monotonic())


class Standin:
    """
    A server on a free port of loopback, in a thread of its own, as long as the `with` lasts.

    Args:
        refuse_every: Each n-th request is refused as this API refuses; 0 = none.
        latency_s: What each answer takes at least.
        newest: The newest record's time, whole seconds; None = the midnight before today's.
    """

    def __init__(
        self, *, refuse_every: int = 0, latency_s: float = 0.0, newest: datetime | None = None
    ) -> None:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.newest = newest or today - timedelta(days=1)
        self.refuse_every, self.latency_s = refuse_every, latency_s
        self.asked: list[Asked] = []
        self.url = ""
        self.in_flight = self.max_in_flight = 0
        self.faults: list[Exception] = []  # of the stand-in itself
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
            app.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, HOST, 0).start()
            self.url = f"http://{HOST}:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

        self._loop.run_until_complete(serve())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        one = Asked(
            time.monotonic(),
            request.method,
            request.path,
            list(request.query.items()),
            {name.lower(): value for name, value in request.headers.items()},
            await request.text(),
        )
        self.asked.append(one)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
            if self.refuse_every and len(self.asked) % self.refuse_every == 0:
                one.refused = True
                response = self.refusal(one)
            else:
                response = self.answer(one)
        except Exception as error:
            self.faults.append(error)
            raise
        finally:
            self.in_flight -= 1
        one.status = response.status
        return response

    def answer(self, asked: Asked) -> web.Response:
        """What this API says to that request."""
        raise NotImplementedError

    def refusal(self, asked: Asked) -> web.Response:
        """How this API says that it was too much, for a moment."""
        raise NotImplementedError

    def forget(self) -> None:
        """An empty log, for what comes next."""
        self.asked.clear()
        self.max_in_flight = 0

    def granted(self, path: str = "") -> list[Asked]:
        """The requests that were not refused, of a path that begins so."""
        return [one for one in self.asked if not one.refused and one.path.startswith(path)]

    def twice(self) -> dict[str, int]:
        """What was asked more than once although it was answered."""
        counted = Counter(f"{one.method} {one.url} {one.body}" for one in self.granted())
        return {what: times for what, times in counted.items() if times > 1}


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON."""
    return web.json_response(body, status=status, headers=headers)


def conditional(asked: Asked, response: web.Response) -> web.Response:
    """With a weak ETag of its body; a 304 to whom knows it (RFC 9110, 13.1.2)."""
    body = response.body
    assert isinstance(body, bytes)
    etag = f'W/"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    response.headers["ETag"] = etag
    known = {tag.strip() for tag in asked.headers.get("if-none-match", "").split(",")}
    if etag not in known and "*" not in known:
        return response
    kept = {name: value for name, value in response.headers.items() if name.lower() not in CONTENT}
    return web.Response(status=304, headers=kept)


CONTENT = {"content-type", "content-length"}


def opaque(value: Any) -> str:
    """A cursor that a client cannot read: base64 with its padding, so that it must be encoded in a query."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def opened(cursor: str) -> Any:
    """What is in a cursor. Raises ValueError."""
    return json.loads(base64.b64decode(cursor, validate=True))


def link_header(links: Iterable[tuple[str, str]]) -> str:
    """`(rel, url)` pairs as a Link field (RFC 8288)."""
    return ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links)


def stamp(at: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def from_stamp(text: str) -> datetime:
    """RFC 3339, or a day. Raises ValueError."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def unknown(asked: Asked, known: Sequence[str]) -> list[str]:
    """Parameters that are not among these."""
    return [name for name, _ in asked.query if name not in known]


def whole(text: str | None, default: int) -> int:
    """A whole number of a query; -1 for what is none."""
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdigit() else -1
