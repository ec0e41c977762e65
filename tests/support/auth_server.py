"""A server with a token endpoint, a login form and an API behind them, which refuses and fails on demand."""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web

CLIENT, CLIENT_SECRET, REFRESH = "client-1", "client secret/+1", "refresh-0-secret"
USER, PASSWORD, CSRF = "ada", "correct horse&battery", "csrf-of-the-form"
LOGIN_PAGE = f"""<html><form id=search action=/search><input name=q></form>
<form id="login" method="POST" action="do-login?next=/">
  <input type=hidden name=csrf value="{CSRF}"><input name=user><input name=password type=password>
  <input type=checkbox name=stay checked><input type=checkbox name=spam><input type=submit name=go value=1>
  <select name=lang><option value=de>de<option value=en selected>en</select></form></html>"""


class AuthServer:
    """
    A server whose API needs a token or a session.

    Args:
        lifetime_s: The lifetime of tokens, sent as `expires_in`; None = not sent.
        rotates: Each refresh token works once.
        uses: How many requests a token or a session is valid for; None = unlimited.
        page: The login page.

    Attributes:
        failures: Responses (status, JSON, headers) to the next token or login requests.
        login_requests: The fields of the token and login requests.
        login_requested: Set at the first token request.
        requested_at_s: The times of the token requests, in monotonic seconds.
        tokens: All issued access tokens.
        good, sessions: The valid tokens and sessions.
        served, denied: The API requests by outcome.
        received: Path and headers of every request.
    """

    def __init__(
        self,
        *,
        lifetime_s: float | None = 3600,
        rotates: bool = False,
        uses: int | None = None,
        page: str = LOGIN_PAGE,
    ) -> None:
        self.lifetime_s, self.rotates, self.uses, self.page = lifetime_s, rotates, uses, page
        self.failures: list[tuple[int, Any, dict[str, str]]] = []
        self.login_requests: list[dict[str, str]] = []
        self.login_requested = asyncio.Event()
        self.requested_at_s: list[float] = []
        self.served = 0
        self.denied = 0
        self.tokens: list[str] = []
        self.good: set[str] = set()
        self.refresh = REFRESH
        self.sessions: set[str] = set()
        self.used: Counter[str] = Counter()
        self.in_flight = self.max_in_flight = 0
        self.received: list[tuple[str, dict[str, str]]] = []
        self._number = itertools.count(1)

    def revoke(self) -> None:
        """Invalidate every token and session."""
        self.good.clear()
        self.sessions.clear()

    async def token(self, request: web.Request) -> web.Response:
        """Issue a token (RFC 6749, sections 4.4 and 6) after either client authentication of section 2.3.1."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        basic = request.headers.get("Authorization", "")
        if basic.startswith("Basic "):
            pair = base64.b64decode(basic.removeprefix("Basic ")).decode().split(":")
            form["client_id"], form["client_secret"] = map(unquote_plus, pair)
            form["by"] = "basic"
        self.login_requests.append(form)
        self.requested_at_s.append(time.monotonic())
        self.login_requested.set()
        if self.failures:
            status, body, headers = self.failures.pop(0)
            return web.json_response(body, status=status, headers=headers)
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT, CLIENT_SECRET):
            reported = {"error": "invalid_client", "error_description": f"not {form.get('client_secret')}"}
            return web.json_response(reported, status=401)
        response: dict[str, Any] = {"token_type": "bearer"}
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] != self.refresh:
                return web.json_response({"error": "invalid_grant"}, status=400)
            if self.rotates:
                self.refresh = response["refresh_token"] = f"refresh-{next(self._number)}-secret"
        access = f"access-{next(self._number)}-secret"
        self.tokens.append(access)
        self.good.add(access)
        if self.lifetime_s is not None:
            response["expires_in"] = self.lifetime_s
        return web.json_response({**response, "access_token": access})

    async def form(self, request: web.Request) -> web.Response:
        """Return the login page, which has a CSRF token and another form."""
        response = web.Response(text=self.page, content_type="text/html")
        response.set_cookie("pre", "before-login")
        return response

    async def do_login(self, request: web.Request) -> web.Response:
        """Process the form: redirect and set the session, or return the form again."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.login_requests.append({**form, "referer": request.headers.get("Referer", ""), **request.cookies})
        if self.failures:
            status, body, headers = self.failures.pop(0)
            return web.json_response(body, status=status, headers=headers)
        if form.get("csrf") != CSRF or request.cookies.get("pre") != "before-login":
            return web.Response(status=403, text="forged")
        if (form.get("user"), form.get("password")) != (USER, PASSWORD):
            return web.Response(text="<p>wrong password</p>", content_type="text/html")
        response = web.Response(status=302, headers={"Location": "/home"})
        self._start_session(response)
        return response

    async def json_login(self, request: web.Request) -> web.Response:
        """Process a JSON login: return a token, and set a cookie for another path."""
        body = await request.json()
        self.login_requests.append(body)
        if body.get("password") != PASSWORD:
            return web.json_response({"ok": False}, status=200)
        access = f"access-{next(self._number)}-secret"
        self.good.add(access)
        response = web.json_response({"ok": True, "auth": {"token": access}})
        response.set_cookie("elsewhere", "not-for-the-api", path="/other")
        return response

    def _start_session(self, response: web.Response) -> None:
        session = f"session-{next(self._number)}-secret"
        self.sessions.add(session)
        response.set_cookie("sid", session, path="/", httponly=True)

    async def api(self, request: web.Request) -> web.Response:
        """Return records for a valid token or session, else a 401."""
        credential = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.cookies.get(
            "sid", ""
        )
        self.used[credential] += 1
        if self.uses is not None and self.used[credential] > self.uses:
            self.good.discard(credential)
            self.sessions.discard(credential)
        if credential not in self.good | self.sessions:
            self.denied += 1
            return web.json_response({"error": "who are you?"}, status=401)
        self.served += 1
        return web.json_response([{"id": request.match_info["n"]}])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Run on a free port of 127.0.0.1."""

        @web.middleware
        async def log_request(request: web.Request, handler: Any) -> web.StreamResponse:
            self.received.append((request.path_qs, dict(request.headers)))
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            try:
                response: web.StreamResponse = await handler(request)
            finally:
                self.in_flight -= 1
            return response

        app = web.Application(middlewares=[log_request])
        app.router.add_post("/oauth/token", self.token)
        app.router.add_get("/login", self.form)
        app.router.add_post("/do-login", self.do_login)
        app.router.add_post("/json-login", self.json_login)
        app.router.add_get("/home", _home)
        app.router.add_get("/items/{n}", self.api)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def _home(request: web.Request) -> web.Response:
    return web.Response(text="hello")
