"""Any `httpx.Auth` of a script (challenges, tokens, bodies that it reads) uses the same egress and limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator

import httpx
import pytest
from auth_server import AuthServer
from digest_server import PASSWORD, USER, DigestServer

from scrapeq import errors
from scrapeq.fetch import Egress
from scrapeq.fetcher.fetcher import Fetcher
from scrapeq.plan import Client, LimitRule, Rate


class LoginAuth(httpx.Auth):
    """An auth that requests a token once, and reads the response."""

    requires_response_body = True

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self.token:
            fields = {"grant_type": "client_credentials", "client_id": "client-1"}
            response = yield httpx.Request(
                "POST", self.url, data={**fields, "client_secret": "client secret/+1"}
            )
            self.token = response.json()["access_token"]
        request.headers["Authorization"] = f"Bearer {self.token}"
        yield request


class LockedAuth(LoginAuth):
    """A `LoginAuth` for asyncio, with a lock around the login."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        async with self.lock:
            if not self.token:
                flow = super().auth_flow(request)
                response = yield next(flow)
                await response.aread()
                flow.send(response)
        request.headers["Authorization"] = f"Bearer {self.token}"
        yield request


class FormAuth(httpx.Auth):
    """A login of two requests to the API's host, with a lock around them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = asyncio.Lock()
        self.cookie = ""

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        async with self.lock:
            if not self.cookie:
                page = yield httpx.Request("GET", f"{self.url}/login")
                csrf = (await page.aread()).decode().partition('name=csrf value="')[2].partition('"')[0]
                form = {"csrf": csrf, "user": "ada", "password": "correct horse&battery"}
                pre = {"Cookie": page.headers["set-cookie"].partition(";")[0]}
                response = yield httpx.Request("POST", f"{self.url}/do-login", data=form, headers=pre)
                self.cookie = response.headers["set-cookie"].partition(";")[0]
        request.headers["Cookie"] = self.cookie
        yield request


async def test_digest_auth_responds_to_a_challenge() -> None:
    """The first response is a 401, the second the page; later requests reuse the challenge and resend bodies."""
    server = DigestServer()
    async with (
        server.serving() as url,
        Fetcher(base_url=url, auth=httpx.DigestAuth(USER, PASSWORD)) as fetcher,
    ):
        page = await fetcher.request("POST", "a?b=c", content=b"hello")
        assert page.status == 200
        assert page.json()["body"] == "hello"
        assert (await fetcher.get("d")).status == 200
    assert server.statuses == [401, 200, 200]


async def test_a_wrong_digest_returns_the_401() -> None:
    """The flow ends, and the 401 is the response."""
    server = DigestServer()
    async with server.serving() as url, Fetcher(base_url=url, auth=httpx.DigestAuth(USER, "no")) as fetcher:
        assert (await fetcher.get("a")).status == 401
    assert server.statuses == [401, 401]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", [LoginAuth, LockedAuth, FormAuth])
async def test_a_flow_logs_in_first(kind: type[LoginAuth | FormAuth]) -> None:
    """Limits that allow one request at a time do not cause a deadlock."""
    server = AuthServer()
    async with (
        server.serving() as url,
        Fetcher(base_url=url, auth=kind(url if kind is FormAuth else f"{url}/oauth/token")) as fetcher,
    ):
        pages = [page async for page in fetcher.stream(f"items/{n}" for n in range(8))]
    assert [page.status for page in pages] == [200] * 8
    assert len(server.login_requests) == 1


async def test_each_request_of_a_flow_takes_a_grant() -> None:
    """A limit of five requests per second counts the requests of the flow, too."""
    server = DigestServer()
    rule = LimitRule("all", rates=(Rate(5, 1.0),), partition_by=())
    loop = asyncio.get_running_loop()
    async with server.serving() as url:
        auth = httpx.DigestAuth(USER, PASSWORD)
        async with Fetcher(base_url=url, auth=auth, rate_limits=[rule]) as fetcher:
            started_s = loop.time()
            for n in range(4):
                auth._last_challenge = None  # each is challenged again: eight requests
                await fetcher.get(f"{n}")
    assert len(server.statuses) == 8
    assert loop.time() - started_s > 0.95


async def test_the_requests_of_a_flow_are_guarded() -> None:
    """A flow cannot reach a special address that the user has not named."""
    async with Egress(
        Client(base_url="http://127.0.0.1:1"), auth=LoginAuth("http://10.0.0.1/token")
    ) as egress:
        with pytest.raises(errors.Blocked, match=r"10\.0\.0\.1 is a private address"):
            await egress.send("GET", "http://127.0.0.1:1/")


class Broken(httpx.Auth):
    """A flow that raises."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        response.headers["x-never-sent"]


class Endless(httpx.Auth):
    """A flow that never ends."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        while True:
            yield request


@pytest.mark.parametrize(
    ("auth", "message"),
    [(Broken(), "auth: KeyError: 'x-never-sent'"), (Endless(), "auth: Endless sent more than 20")],
)
async def test_a_broken_flow_is_a_final_error(auth: httpx.Auth, message: str) -> None:
    """The error has a one-line message."""
    server = DigestServer()
    async with server.serving() as url, Egress(Client(base_url=url), auth=auth) as egress:
        with pytest.raises(errors.AuthFailed, match=message) as caught:
            await egress.send("GET", url)
    assert caught.value.final


async def test_a_flow_is_not_started_for_another_origin() -> None:
    """The credential is sent only to the origin of `base_url`."""
    server = DigestServer()
    async with server.serving() as url:
        client = Client(base_url="http://127.0.0.1:1", allow_hosts=(url,))
        async with Egress(client, auth=httpx.DigestAuth(USER, PASSWORD)) as egress:
            assert (await egress.send("GET", url)).status == 401
    assert server.statuses == [401]
