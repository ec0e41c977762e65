"""OAuth 2.0 against a real token endpoint that expires, rotates and refuses."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from auth_server import CLIENT, CLIENT_SECRET, REFRESH, AuthServer

from scrapeq import errors
from scrapeq.fetch import Egress
from scrapeq.plan import Auth, Client
from scrapeq.testing import FakeClock

AUTH = Auth("oauth2_client_credentials", client_id=CLIENT, client_secret=CLIENT_SECRET)
REFRESHING = replace(AUTH, type="oauth2_refresh_token", refresh_token=REFRESH)


def client(url: str, auth: Auth = AUTH, **changes: Any) -> Client:
    """Return the configuration of a client of the server."""
    changed = replace(auth, access_token_url=f"{url}/oauth/token", **changes)
    return Client(base_url=url, timeout_s=5, auth=changed)


async def statuses(egress: Egress, url: str, *numbers: int) -> list[int]:
    """Return the statuses of concurrent requests."""
    pages = await asyncio.gather(*(egress.send("GET", f"{url}/items/{n}") for n in numbers))
    return [page.status for page in pages]


@pytest.mark.parametrize("client_auth", ["body", "basic"])
async def test_concurrent_requests_share_one_token_request(client_auth: Any) -> None:
    """The token request has the parameters of RFC 6749."""
    server = AuthServer()
    async with server.serving() as url:
        changes = {
            "scopes": ("read", "write"),
            "token_params": {"audience": "api"},
            "client_auth": client_auth,
        }
        async with Egress(client(url, **changes)) as egress:
            assert await statuses(egress, url, *range(10)) == [200] * 10
            assert await statuses(egress, url, 11) == [200]
    (login_requests,) = server.login_requests
    assert login_requests.pop("by", "body") == client_auth
    assert login_requests == {
        "grant_type": "client_credentials",
        "scope": "read write",
        "audience": "api",
        "client_id": CLIENT,
        "client_secret": CLIENT_SECRET,
    }
    assert server.denied == 0


@pytest.mark.parametrize(
    ("reported_s", "file_s", "good_s"),
    [(1000, None, 970), (100, 5, 90), (None, 50, 45), ("60", None, 54), (None, None, 10**8)],
)
async def test_a_token_is_refreshed_before_it_expires(
    reported_s: Any, file_s: float | None, good_s: float
) -> None:
    """
    A token is refreshed a tenth of its lifetime early (at most 30 s), or after a 401 if the lifetime is unknown.

    The lifetime is `expires_in`, else that in the file.
    """
    server, clock = AuthServer(lifetime_s=reported_s), FakeClock()
    async with server.serving() as url, Egress(client(url, expires_s=file_s), clock=clock) as egress:
        await statuses(egress, url, 1)
        await clock.advance(good_s - 1)
        await statuses(egress, url, 2)
        assert len(server.login_requests) == 1
        await clock.advance(2)
        await statuses(egress, url, 3)
        assert len(server.login_requests) == (2 if good_s < 10**8 else 1)


async def test_a_refused_token_is_dropped_once() -> None:
    """The first 401 of many requests with one token drops the token; the other requests use the new one."""
    server = AuthServer()
    async with server.serving() as url, Egress(client(url)) as egress:
        await statuses(egress, url, 1)
        server.revoke()
        all_sent, refreshed = asyncio.Barrier(5), []

        async def one(n: int) -> int:
            page = await egress.send("GET", f"{url}/items/{n}")
            assert page.status == 401
            await all_sent.wait()
            refreshed.append(egress.refresh())
            return (await egress.send("GET", f"{url}/items/{n}")).status

        assert await asyncio.gather(*map(one, range(5))) == [200] * 5
        assert len(server.login_requests) == 2
        assert refreshed.count(True) == 1
        assert egress.refresh() is False  # this task has not sent the current token


async def test_a_late_refusal_does_not_drop_the_new_token() -> None:
    """A 401 for an older token does not say anything about the current one."""
    server = AuthServer()
    async with server.serving() as url, Egress(client(url)) as egress:
        refused, refreshed = asyncio.Event(), asyncio.Event()

        async def late() -> bool:
            await egress.send("GET", f"{url}/items/1")
            refused.set()
            await refreshed.wait()
            return egress.refresh()

        waiting = asyncio.create_task(late())
        await refused.wait()
        await egress.send("GET", f"{url}/items/2")
        assert egress.refresh() is True
        await egress.send("GET", f"{url}/items/3")
        refreshed.set()
        assert await waiting is False
        assert len(server.login_requests) == 2


async def test_a_static_token_cannot_be_refreshed() -> None:
    """A static token was not issued by a token endpoint."""
    server = AuthServer()
    async with server.serving() as url, Egress(Client(base_url=url, auth=Auth("bearer", "x"))) as egress:
        assert await statuses(egress, url, 1) == [401]
        assert egress.refresh() is False


async def test_rotated_refresh_tokens_survive_restarts(tmp_path: Path) -> None:
    """Each token works once; the next process reads the last one from a file that only its owner can read."""
    server, token_file = AuthServer(rotates=True), tmp_path / "acme.tokens"
    async with server.serving() as url:
        for n in range(3):
            async with Egress(client(url, REFRESHING), tokens=token_file) as egress:
                assert await statuses(egress, url, n) == [200]
                server.revoke()
                assert (await egress.send("GET", f"{url}/items/{n}")).status == 401
                assert egress.refresh()
                assert await statuses(egress, url, n) == [200]
    assert server.login_requests[0]["refresh_token"] == REFRESH
    assert len(server.login_requests) == 4  # the first, and one per lifetime
    assert stat.S_IMODE(os.stat(token_file).st_mode) == 0o600


async def test_processes_with_the_same_configuration_share_a_token(tmp_path: Path) -> None:
    """Two egresses with one file log in once, at the same time or later; another secret or scope logs in again."""
    server, token_file = AuthServer(), tmp_path / "acme.tokens"
    async with server.serving() as url:
        async with (
            Egress(client(url), tokens=token_file) as one,
            Egress(client(url), tokens=token_file) as other,
        ):
            await asyncio.gather(statuses(one, url, 1, 2), statuses(other, url, 3, 4))
            assert len(server.login_requests) == 1
        async with Egress(client(url), tokens=token_file) as later:
            await statuses(later, url, 5)
            assert len(server.login_requests) == 1
        async with Egress(client(url, scopes=("read",)), tokens=token_file) as changed:
            await statuses(changed, url, 6)
            assert len(server.login_requests) == 2


async def test_a_damaged_token_file_is_ignored(tmp_path: Path) -> None:
    """A truncated file and other JSON are not used as stored tokens."""
    server, token_file = AuthServer(), tmp_path / "acme.tokens"
    async with server.serving() as url:
        for text in ("", "{", "[]", '{"version": 1, "issued": {"access": 5}}'):
            token_file.write_text(text)
            async with Egress(client(url), tokens=token_file) as egress:
                assert await statuses(egress, url, 1) == [200]
            token_file.unlink()


async def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    """A token is not requested, since a rotated one would be lost."""
    server = AuthServer()
    async with server.serving() as url:
        async with Egress(client(url), tokens=tmp_path / "none" / "acme.tokens") as egress:
            with pytest.raises(
                errors.AuthFailed, match="credential cannot be stored: No such file"
            ) as caught:
                await egress.send("GET", f"{url}/items/1")
        assert caught.value.final
        assert not server.login_requests


REFUSALS = {
    "wrong secret": (401, {"error": "invalid_client", "error_description": "no  such\nclient"}, True),
    "bad grant": (400, {"error": "invalid_grant"}, True),
    "no reason": (403, "nope", True),
    "no token": (200, {"token": "x"}, True),
    "not found": (404, {}, True),
    "in 200": (200, {"ok": False, "error": "bad_client_secret"}, True),
    "down": (503, {}, False),
    "later": (408, {}, False),
}


@pytest.mark.parametrize(("status", "body", "final"), REFUSALS.values(), ids=REFUSALS)
async def test_one_failure_fails_all_waiting_requests(status: int, body: Any, final: bool) -> None:
    """One request fails with the endpoint's reason in one line; only an error that is not final is retried later."""
    server, clock = AuthServer(), FakeClock()
    server.failures = [(status, body, {})]
    async with server.serving() as url, Egress(client(url), clock=clock) as egress:
        sent = (egress.send("GET", f"{url}/items/{n}") for n in range(20))
        failed = await asyncio.gather(*sent, return_exceptions=True)
        assert all(isinstance(error, errors.AuthFailed) and error.final is final for error in failed)
        (text,) = {str(error) for error in failed}
        assert text.startswith(f"client.auth: {url}/oauth/token did not issue a token: {status}, ")
        assert "\n" not in text
        if isinstance(body, dict) and "error" in body:
            assert body["error"] in text
        with pytest.raises(errors.AuthFailed):
            await egress.send("GET", f"{url}/items/1")
        assert len(server.login_requests) == 1
        await clock.advance(1.5)
        if final:
            with pytest.raises(errors.AuthFailed):
                await egress.send("GET", f"{url}/items/1")
        else:
            assert await statuses(egress, url, 1) == [200]
        assert len(server.login_requests) == (1 if final else 2)
        assert server.served == (0 if final else 1)


async def test_an_unreachable_token_endpoint_is_retried() -> None:
    """The error names the endpoint, and the pause doubles."""
    auth = replace(AUTH, access_token_url="http://127.0.0.1:1/token")
    clock = FakeClock()
    async with Egress(Client(base_url="http://127.0.0.1:2", timeout_s=5, auth=auth), clock=clock) as egress:
        for pause_s in (1, 2, 4):
            with pytest.raises(
                errors.AuthFailed, match=r"client.auth: POST http://127.0.0.1:1/token"
            ) as caught:
                await egress.send("GET", "http://127.0.0.1:2/")
            assert not caught.value.final
            assert caught.value.pause_s == pause_s
            await clock.advance(pause_s + 0.1)


async def test_a_failed_login_also_fails_waiting_processes(tmp_path: Path) -> None:
    """Two egresses that wait for one lock send one wrong login, not two."""
    server, token_file = AuthServer(), tmp_path / "acme.tokens"
    async with server.serving() as url:
        wrong = client(url, client_secret="wrong secret")
        async with Egress(wrong, tokens=token_file) as one, Egress(wrong, tokens=token_file) as other:
            sent = (egress.send("GET", f"{url}/items/1") for egress in (one, other))
            failed = await asyncio.gather(*sent, return_exceptions=True)
    assert all(isinstance(error, errors.AuthFailed) and error.final for error in failed)
    assert len(server.login_requests) == 1
    assert "wrong secret" not in f"{failed[0]} {failed[1]}"  # the endpoint echoes it


async def test_cancelling_a_request_does_not_cancel_its_login(tmp_path: Path) -> None:
    """The rotated refresh token of the response in transit is not lost."""
    server, token_file = AuthServer(rotates=True), tmp_path / "acme.tokens"
    async with server.serving() as url, Egress(client(url, REFRESHING), tokens=token_file) as egress:
        first = asyncio.create_task(egress.send("GET", f"{url}/items/1"))
        await server.login_requested.wait()
        first.cancel()
        assert await statuses(egress, url, 2) == [200]
    assert len(server.login_requests) == 1
    assert server.refresh.encode() in token_file.read_bytes()


async def test_the_token_goes_to_the_origin_only() -> None:
    """Another origin receives neither the token nor the client secret, and the API does not receive the secret."""
    api, tokens, other = AuthServer(), AuthServer(), AuthServer()
    async with api.serving() as url, tokens.serving() as token_url, other.serving() as other_url:
        auth = replace(AUTH, access_token_url=f"{token_url}/oauth/token")
        async with Egress(Client(base_url=url, auth=auth, allow_hosts=(other_url,))) as egress:
            await egress.send("GET", f"{url}/items/1")
            await egress.send("GET", f"{other_url}/items/1")
    assert [path for path, _ in tokens.received] == ["/oauth/token"]
    assert api.received[0][1]["Authorization"] == f"Bearer {tokens.tokens[0]}"
    assert "Authorization" not in other.received[0][1]
    assert CLIENT_SECRET not in str(api.received) + str(other.received)
