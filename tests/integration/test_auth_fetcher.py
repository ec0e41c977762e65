"""A `Fetcher` with credentials that it requests: it stores them in memory and waits for their limits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from auth_server import CLIENT, CLIENT_SECRET, PASSWORD, USER, AuthServer

from scrapeq import errors
from scrapeq.fetcher.fetcher import Fetcher
from scrapeq.plan import Auth, LimitRule, Login, Match, Rate
from scrapeq.testing import FakeClock

OAUTH2 = Auth("oauth2_client_credentials", client_id=CLIENT, client_secret=CLIENT_SECRET)
FORM = Auth("session", login=Login("login", form="#login", data={"user": USER, "password": PASSWORD}))


def auth_at(url: str) -> Auth:
    """Return credentials for the token endpoint at this URL."""
    return replace(OAUTH2, access_token_url=f"{url}/oauth/token")


@pytest.mark.parametrize("kind", ["oauth2", "form"])
async def test_a_stream_logs_in_once(kind: str) -> None:
    """An unknown limit, which allows one request at first, does not cause a deadlock."""
    server = AuthServer()
    async with server.serving() as url:
        auth = FORM if kind == "form" else auth_at(url)
        async with Fetcher(base_url=url, auth=auth) as fetcher:
            pages = [page async for page in fetcher.stream(f"items/{n}" for n in range(20))]
    assert [page.status for page in pages] == [200] * 20
    assert len(server.login_requests) == 1
    assert server.denied == 0


async def test_a_refusal_by_the_token_endpoint_is_waited_out() -> None:
    """Refusals do not count as attempts, and the wait does not count against the deadline of a request."""
    api, tokens = AuthServer(), AuthServer()
    tokens.failures = [(429, {}, {"Retry-After": "1"})] * 2
    async with api.serving() as url, tokens.serving() as token_url:
        api.good = tokens.good
        async with Fetcher(base_url=url, auth=auth_at(token_url), timeout_s=0.5) as fetcher:
            pages = await asyncio.gather(*(fetcher.get(f"items/{n}") for n in range(4)))
    assert [page.status for page in pages] == [200] * 4
    assert len(tokens.requested_at_s) == 3
    assert tokens.requested_at_s[2] - tokens.requested_at_s[1] >= 1.0
    assert api.denied == 0


@pytest.mark.timeout(60)
async def test_max_wait_also_holds_for_logins() -> None:
    """`max_wait_s` also applies to the limit of the token endpoint."""
    server = AuthServer()
    server.failures = [(429, {}, {"Retry-After": "60"})]
    async with server.serving() as url, Fetcher(base_url=url, auth=auth_at(url), max_wait_s=2) as fetcher:
        with pytest.raises(errors.RateLimited) as caught:
            await fetcher.get("items/1")
    assert caught.value.retry_after_s > 50
    assert len(server.login_requests) == 1


async def test_logins_have_their_own_limit() -> None:
    """With one login per second, the second login waits although the API's limit is open."""
    server, clock = AuthServer(uses=1), FakeClock(auto=True)
    rules = [LimitRule("logins", match=Match(path=("/oauth/*",)), rates=(Rate(1, 1.0),))]
    async with (
        server.serving() as url,
        Fetcher(base_url=url, auth=auth_at(url), rate_limits=rules, clock=clock) as fetcher,
    ):
        assert (await fetcher.get("items/1")).status == 200
        assert (await fetcher.get("items/2")).status == 401
        fetcher._egress.refresh()
        assert (await fetcher.get("items/3")).status == 200
    assert len(server.requested_at_s) == 2
    assert clock.monotonic_s() >= 0.95


async def test_a_wrong_secret_is_sent_once() -> None:
    """The first error is final, so a second login is not sent."""
    server = AuthServer()
    async with server.serving() as url:
        auth = replace(auth_at(url), client_secret="wrong-secret")
        async with Fetcher(base_url=url, auth=auth) as fetcher:
            for _ in range(3):
                with pytest.raises(errors.AuthFailed, match="invalid_client"):
                    await fetcher.request("POST", "items/1", json={})
    assert len(server.login_requests) == 1


async def test_a_failed_login_is_retried() -> None:
    """The retry comes after a pause, even for a POST, which has not been sent yet."""
    server, clock = AuthServer(), FakeClock(auto=True)
    server.failures = [(503, {}, {})]
    async with server.serving() as url, Fetcher(base_url=url, auth=auth_at(url), clock=clock) as fetcher:
        assert (await fetcher.request("POST", "items/1", json={})).status == 405
    assert len(server.requested_at_s) == 2
    assert clock.monotonic_s() >= 1.0
