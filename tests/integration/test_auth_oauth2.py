"""OAuth 2.0 against a real token endpoint that counts, expires, rotates and refuses."""

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
    """A client of the server."""
    changed = replace(auth, access_token_url=f"{url}/oauth/token", **changes)
    return Client(base_url=url, timeout_s=5, auth=changed)


async def statuses(egress: Egress, url: str, *numbers: int) -> list[int]:
    """Of requests that are sent at once."""
    pages = await asyncio.gather(*(egress.send("GET", f"{url}/items/{n}") for n in numbers))
    return [page.status for page in pages]


@pytest.mark.parametrize("client_auth", ["body", "basic"])
async def test_a_token_is_asked_for_once_and_sent(client_auth: Any) -> None:
    """Requests that begin together share one token request, which says what RFC 6749 asks for."""
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
    (asked,) = server.asked
    assert asked.pop("by", "body") == client_auth
    assert asked == {
        "grant_type": "client_credentials",
        "scope": "read write",
        "audience": "api",
        "client_id": CLIENT,
        "client_secret": CLIENT_SECRET,
    }
    assert server.denied == 0


@pytest.mark.parametrize(
    ("told_s", "file_s", "good_s"),
    [(1000, None, 970), (100, 5, 90), (None, 50, 45), ("60", None, 54), (None, None, 10**8)],
)
async def test_a_token_is_asked_for_anew_before_it_runs_out(
    told_s: Any, file_s: float | None, good_s: float
) -> None:
    """The answer's word counts, else the file's; a tenth earlier, or half a minute; without one until it is refused."""
    server, clock = AuthServer(lifetime_s=told_s), FakeClock()
    async with server.serving() as url, Egress(client(url, expires_s=file_s), clock=clock) as egress:
        await statuses(egress, url, 1)
        await clock.advance(good_s - 1)
        await statuses(egress, url, 2)
        assert len(server.asked) == 1
        await clock.advance(2)
        await statuses(egress, url, 3)
        assert len(server.asked) == (2 if good_s < 10**8 else 1)


async def test_a_refused_token_is_forgotten_once() -> None:
    """Of many that were sent with one token the first that is told of it forgets it; the others find the new one."""
    server = AuthServer()
    async with server.serving() as url, Egress(client(url)) as egress:
        await statuses(egress, url, 1)
        server.revoke()
        all_sent, renewed = asyncio.Barrier(5), []

        async def one(n: int) -> int:
            page = await egress.send("GET", f"{url}/items/{n}")
            assert page.status == 401
            await all_sent.wait()
            renewed.append(egress.refresh())
            return (await egress.send("GET", f"{url}/items/{n}")).status

        assert await asyncio.gather(*map(one, range(5))) == [200] * 5
        assert len(server.asked) == 2
        assert renewed.count(True) == 1
        assert egress.refresh() is False  # this task has sent nothing with the token of now


async def test_who_was_late_finds_the_new_token() -> None:
    """A refusal of the token before last says nothing of the one in use."""
    server = AuthServer()
    async with server.serving() as url, Egress(client(url)) as egress:
        refused, renewed = asyncio.Event(), asyncio.Event()

        async def late() -> bool:
            await egress.send("GET", f"{url}/items/1")
            refused.set()
            await renewed.wait()
            return egress.refresh()

        waiting = asyncio.create_task(late())
        await refused.wait()
        await egress.send("GET", f"{url}/items/2")
        assert egress.refresh() is True
        await egress.send("GET", f"{url}/items/3")
        renewed.set()
        assert await waiting is False
        assert len(server.asked) == 2


async def test_a_plain_token_cannot_be_refreshed() -> None:
    """There is nothing to ask for."""
    server = AuthServer()
    async with server.serving() as url, Egress(Client(base_url=url, auth=Auth("bearer", "x"))) as egress:
        assert await statuses(egress, url, 1) == [401]
        assert egress.refresh() is False


async def test_rotated_refresh_tokens_survive_restarts(tmp_path: Path) -> None:
    """Each is good once; the next process goes on with the last one, in a file that only its owner can read."""
    server, kept = AuthServer(rotates=True), tmp_path / "acme.tokens"
    async with server.serving() as url:
        for n in range(3):
            async with Egress(client(url, REFRESHING), tokens=kept) as egress:
                assert await statuses(egress, url, n) == [200]
                server.revoke()
                assert (await egress.send("GET", f"{url}/items/{n}")).status == 401
                assert egress.refresh()
                assert await statuses(egress, url, n) == [200]
    assert server.asked[0]["refresh_token"] == REFRESH
    assert len(server.asked) == 4  # one a life, and the first
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600


async def test_a_token_is_shared_by_processes_and_void_for_another_configuration(tmp_path: Path) -> None:
    """Two egresses over one file log in once, at the same time or later; another secret or scope begins anew."""
    server, kept = AuthServer(), tmp_path / "acme.tokens"
    async with server.serving() as url:
        async with (
            Egress(client(url), tokens=kept) as one,
            Egress(client(url), tokens=kept) as other,
        ):
            await asyncio.gather(statuses(one, url, 1, 2), statuses(other, url, 3, 4))
            assert len(server.asked) == 1
        async with Egress(client(url), tokens=kept) as later:
            await statuses(later, url, 5)
            assert len(server.asked) == 1
        async with Egress(client(url, scopes=("read",)), tokens=kept) as changed:
            await statuses(changed, url, 6)
            assert len(server.asked) == 2


async def test_a_file_that_is_no_token_file_is_begun_anew(tmp_path: Path) -> None:
    """Half a file, or somebody else's JSON, is nothing that was kept."""
    server, kept = AuthServer(), tmp_path / "acme.tokens"
    async with server.serving() as url:
        for text in ("", "{", "[]", '{"version": 1, "issued": {"access": 5}}'):
            kept.write_text(text)
            async with Egress(client(url), tokens=kept) as egress:
                assert await statuses(egress, url, 1) == [200]
            kept.unlink()


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Before anything is asked for: what was rotated would be lost."""
    server = AuthServer()
    async with server.serving() as url:
        async with Egress(client(url), tokens=tmp_path / "none" / "acme.tokens") as egress:
            with pytest.raises(errors.AuthFailed, match="cannot be kept there: No such file") as caught:
                await egress.send("GET", f"{url}/items/1")
        assert caught.value.final
        assert not server.asked


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
async def test_one_failure_is_told_to_all_who_waited(status: int, body: Any, final: bool) -> None:
    """One line that says what the endpoint said; one request; not again before a pause, and never where it is final."""
    server, clock = AuthServer(), FakeClock()
    server.failures = [(status, body, {})]
    async with server.serving() as url, Egress(client(url), clock=clock) as egress:
        sent = (egress.send("GET", f"{url}/items/{n}") for n in range(20))
        failed = await asyncio.gather(*sent, return_exceptions=True)
        assert all(isinstance(error, errors.AuthFailed) and error.final is final for error in failed)
        (text,) = {str(error) for error in failed}
        assert text.startswith(f"client.auth: {url}/oauth/token gives no token: {status}, ")
        assert "\n" not in text
        if isinstance(body, dict) and "error" in body:
            assert body["error"] in text
        with pytest.raises(errors.AuthFailed):
            await egress.send("GET", f"{url}/items/1")
        assert len(server.asked) == 1
        await clock.advance(1.5)
        if final:
            with pytest.raises(errors.AuthFailed):
                await egress.send("GET", f"{url}/items/1")
        else:
            assert await statuses(egress, url, 1) == [200]
        assert len(server.asked) == (1 if final else 2)
        assert server.served == (0 if final else 1)


async def test_a_broken_token_endpoint_is_no_final_failure() -> None:
    """Nobody listens: it is named, and asked again after a pause that doubles."""
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


async def test_a_failed_login_is_told_to_other_processes_that_waited(tmp_path: Path) -> None:
    """Two egresses that wait for one lock make one wrong login, not two."""
    server, kept = AuthServer(), tmp_path / "acme.tokens"
    async with server.serving() as url:
        wrong = client(url, client_secret="wrong secret")
        async with Egress(wrong, tokens=kept) as one, Egress(wrong, tokens=kept) as other:
            sent = (egress.send("GET", f"{url}/items/1") for egress in (one, other))
            failed = await asyncio.gather(*sent, return_exceptions=True)
    assert all(isinstance(error, errors.AuthFailed) and error.final for error in failed)
    assert len(server.asked) == 1
    assert "wrong secret" not in f"{failed[0]} {failed[1]}"  # the endpoint echoes it


async def test_a_request_that_is_given_up_does_not_take_the_login_with_it(tmp_path: Path) -> None:
    """The rotated refresh token of an answer on its way is not lost."""
    server, kept = AuthServer(rotates=True), tmp_path / "acme.tokens"
    async with server.serving() as url, Egress(client(url, REFRESHING), tokens=kept) as egress:
        first = asyncio.create_task(egress.send("GET", f"{url}/items/1"))
        await server.was_asked.wait()
        first.cancel()
        assert await statuses(egress, url, 2) == [200]
    assert len(server.asked) == 1
    assert server.refresh.encode() in kept.read_bytes()


async def test_the_token_goes_to_the_origin_only() -> None:
    """Neither token nor client secret is seen by another origin, nor by the API the secret."""
    api, tokens, other = AuthServer(), AuthServer(), AuthServer()
    async with api.serving() as url, tokens.serving() as token_url, other.serving() as other_url:
        auth = replace(AUTH, access_token_url=f"{token_url}/oauth/token")
        async with Egress(Client(base_url=url, auth=auth, allow_hosts=(other_url,))) as egress:
            await egress.send("GET", f"{url}/items/1")
            await egress.send("GET", f"{other_url}/items/1")
    assert [path for path, _ in tokens.saw] == ["/oauth/token"]
    assert api.saw[0][1]["Authorization"] == f"Bearer {tokens.tokens[0]}"
    assert "Authorization" not in other.saw[0][1]
    assert CLIENT_SECRET not in str(api.saw) + str(other.saw)
