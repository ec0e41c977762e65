"""A server that asks for digest authentication."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.request import parse_http_list, parse_keqv_list

from aiohttp import web

REALM, NONCE, USER, PASSWORD = "acme", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "Mufasa", "Circle Of Life"


class DigestServer:
    """A server with Digest authentication (RFC 7616) with MD5 and qop=auth."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Return a 401 with a challenge, or the page."""
        _, _, fields = request.headers.get("Authorization", "").partition(" ")
        message = parse_keqv_list(parse_http_list(fields))
        status = 200 if message and message.get("response") == self._expected(request, message) else 401
        self.statuses.append(status)
        challenge = f'Digest realm="{REALM}", qop="auth", nonce="{NONCE}", opaque="5ccc"'
        headers = {"WWW-Authenticate": challenge} if status == 401 else {}
        return web.json_response(
            {"path": request.path, "body": await request.text()}, status=status, headers=headers
        )

    @staticmethod
    def _expected(request: web.Request, message: dict[str, str]) -> str:
        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        first, second = md5(f"{USER}:{REALM}:{PASSWORD}"), md5(f"{request.method}:{request.path_qs}")
        return md5(f"{first}:{NONCE}:{message['nc']}:{message['cnonce']}:auth:{second}")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Run on a free port of 127.0.0.1."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
