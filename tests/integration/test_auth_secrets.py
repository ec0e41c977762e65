"""No error shows what was sent to obtain a credential, nor the issued credential, whatever servers send."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import pytest
from fetch_server import Received, response, serving

from scrapeq import errors
from scrapeq.fetch import Egress
from scrapeq.plan import Auth, Client, Login

SECRET = "s3cr3t/Val ue"  # of the configuration
ISSUED = "giv3n-Token/1"  # issued by the login
PAIR = base64.b64encode(b"me:s3cr3t%2FVal+ue").decode()  # as `client_auth: basic` sends both
SPELLED = ("s3cr3t", "giv3n", PAIR)
TOKEN = response(200, json.dumps({"access_token": ISSUED, "refresh_token": f"{ISSUED}-r"}).encode())
SESSION = response(200, b"{}", ("Set-Cookie", f"sid={ISSUED}; Path=/"))

OAUTH2 = Auth("oauth2_client_credentials", client_id="me", client_secret=SECRET)
AUTHS = {
    "client": (OAUTH2, TOKEN),
    "basic": (replace(OAUTH2, client_auth="basic"), TOKEN),
    "param": (replace(OAUTH2, client_secret="", token_params={"assertion": SECRET}), TOKEN),
    "refresh": (replace(OAUTH2, type="oauth2_refresh_token", refresh_token=SECRET, client_secret=""), TOKEN),
    "form": (Auth("session", login=Login("login", data={"user": "me", "word": SECRET})), SESSION),
    "json": (Auth("session", login=Login("login", json={"a": [{"word": SECRET}]})), SESSION),
}


def echoes(what: str) -> dict[str, bytes]:
    """Return responses that repeat a secret in the parts that error messages quote."""
    return {
        "cut off": response(200, what.encode(), length=1000),
        "no HTTP": f"{what}\r\n\r\n".encode(),
        "in the status line": f"HTTP/1.1 {what}\r\n\r\n".encode(),
        "in a header": f"HTTP/1.1 200 OK\r\n{what}\r\n\r\n".encode(),
        "hangs up": b"",
        "to another scheme": response(302, b"", ("Location", f"ftp://a.test/{what}")),
        "to no address": response(302, b"", ("Location", f"http://[::1/?x={what}")),
        "to a private host": response(302, b"", ("Location", f"http://10.0.0.1/?x={what}")),
        "at the cut": response(302, b"", ("Location", f"ftp://a.test/{'x' * 170}?x={what}")),
        "over the cut": response(302, b"", ("Location", f"ftp://a.test/{'x' * 178}?x={what}")),
        "in words": response(401, json.dumps({"error": "bad", "error_description": f"not {what}"}).encode()),
        "in a form": response(
            400, f"error={what}".encode(), ("Content-Type", "application/x-www-form-urlencoded")
        ),
    }


async def error_of(auth: Auth, login: bytes, response_bytes: bytes) -> tuple[str, list[Received]]:
    """Return the error message, given the responses of the login and of the API, and the received requests."""

    async def write(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(login if request.path.startswith("/login") else response_bytes)
        await writer.drain()
        writer.close()

    async with serving(write) as server:
        whole = replace(auth, access_token_url=f"{server.url}/login" if auth.type != "session" else "")
        async with Egress(Client(base_url=server.url, timeout_s=5, auth=whole, max_body_size=5000)) as egress:
            try:
                await egress.send("GET", f"{server.url}/items")
            except errors.FetchError as error:
                return f"{error} {error!r}", server.received
    return "", server.received


@pytest.mark.parametrize(("auth", "login"), AUTHS.values(), ids=AUTHS)
async def test_errors_do_not_show_an_issued_credential(auth: Auth, login: bytes) -> None:
    """Error messages omit the credential, even if the API repeats it in its response."""
    for name, response_bytes in echoes(ISSUED).items():
        message, received = await error_of(auth, login, response_bytes)
        assert any(ISSUED in value for _, value in received[-1].headers), name
        assert not any(secret in message for secret in SPELLED), name
        assert message or name in ("in words", "in a form"), name


@pytest.mark.parametrize(("auth", "login"), AUTHS.values(), ids=AUTHS)
@pytest.mark.parametrize("sent", [SECRET, "s3cr3t%2FVal+ue", PAIR], ids=["plain", "quoted", "pair"])
async def test_errors_do_not_show_the_secrets_of_a_login(auth: Auth, login: bytes, sent: str) -> None:
    """Error messages omit secrets that the login server repeats; without a credential, the API gets no request."""
    for name, response_bytes in echoes(sent).items():
        message, received = await error_of(auth, response_bytes, b"")
        assert message, name
        if sent != PAIR or auth.client_secret:  # otherwise it is not a secret
            assert not any(secret in message for secret in SPELLED), name
        assert len(received) == 1, name


@pytest.mark.parametrize(("auth", "login"), AUTHS.values(), ids=AUTHS)
async def test_the_repr_of_a_configuration_does_not_show_secrets(auth: Auth, login: bytes) -> None:
    """Tracebacks print the repr."""
    assert SECRET not in f"{Client(auth=auth)!r} {auth!r} {auth.login!r}"
