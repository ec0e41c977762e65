"""Sessions: forms with a CSRF token, JSON logins, success conditions, and the destinations of cookies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from auth_server import CSRF, PASSWORD, USER, AuthServer

from scrapeq import errors
from scrapeq.expression import Expression, compile_expression
from scrapeq.expression.scope import RESPONSE_NAMES
from scrapeq.fetch import AuthLimitClosed, Egress
from scrapeq.page import Page
from scrapeq.plan import Auth, Client, Login
from scrapeq.testing import FakeClock

DATA = {"user": USER, "password": PASSWORD, "remember": True, "left_out": None}
FORM = Auth("session", login=Login("login", form="#login", data=DATA))
JSON = Auth(
    "session", login=Login("json-login", json={"password": PASSWORD}), session_token_path="auth.token"
)


def client(url: str, auth: Auth, **more: Any) -> Client:
    """Return the configuration of a client of the server."""
    return Client(base_url=url, timeout_s=5, auth=auth, **more)


def when(text: str) -> Expression:
    """Compile a condition for a response."""
    return compile_expression(text, RESPONSE_NAMES)


async def test_a_form_is_filled_and_the_session_reused() -> None:
    """The fields, cookie, action and method of the form are used; the final redirect is not followed."""
    server = AuthServer()
    async with server.serving() as url, Egress(client(url, FORM)) as egress:
        for n in range(3):
            assert (await egress.send("GET", f"{url}/items/{n}")).status == 200
    assert server.login_requests == [
        {
            "user": USER,
            "password": PASSWORD,
            "csrf": CSRF,
            "stay": "on",
            "lang": "en",
            "remember": "true",
            "referer": f"{url}/login",
            "pre": "before-login",
        }
    ]
    paths = [path for path, _ in server.received]
    assert paths == ["/login", "/do-login?next=/", "/items/0", "/items/1", "/items/2"]
    assert server.received[-1][1]["Cookie"].split("; ")[1:] == [f"sid={next(iter(server.sessions))}"]


async def test_a_json_login_issues_a_token() -> None:
    """The token is sent as a bearer token; a cookie for another path is not sent."""
    server = AuthServer()
    async with server.serving() as url, Egress(client(url, JSON)) as egress:
        assert (await egress.send("GET", f"{url}/items/1")).status == 200
    assert server.login_requests == [{"password": PASSWORD}]
    assert server.received[-1][1]["Authorization"] == f"Bearer {next(iter(server.good))}"
    assert "Cookie" not in server.received[-1][1]


async def test_an_ended_session_is_restarted() -> None:
    """A session is restarted after a 401, and when its configured lifetime is over."""
    server, clock = AuthServer(), FakeClock()
    auth = replace(FORM, expires_s=1000)
    async with server.serving() as url, Egress(client(url, auth), clock=clock) as egress:
        await egress.send("GET", f"{url}/items/1")
        server.revoke()
        assert (await egress.send("GET", f"{url}/items/1")).status == 401
        assert egress.refresh()
        assert (await egress.send("GET", f"{url}/items/1")).status == 200
        assert len(server.login_requests) == 2
        await clock.advance(971)
        assert (await egress.send("GET", f"{url}/items/1")).status == 200
        assert len(server.login_requests) == 3


async def test_a_session_is_shared_and_stored(tmp_path: Path) -> None:
    """The file preserves the attributes of cookies."""
    server, token_file = AuthServer(), tmp_path / "acme.tokens"
    async with server.serving() as url:
        for n in range(2):
            async with Egress(client(url, FORM), tokens=token_file) as egress:
                assert (await egress.send("GET", f"{url}/items/{n}")).status == 200
    assert len(server.login_requests) == 1


WRONG = {
    "wrong password": (
        replace(FORM, success_when=when("status == 302")),
        "the response is 200, and success_when is false",
    ),
    "wrong password in JSON": (
        replace(JSON, success_when=when("body.ok")),
        "the response is 200, and success_when is false",
    ),
    "no token": (JSON, "the response (200) does not contain auth.token"),
}


@pytest.mark.parametrize(("auth", "message"), WRONG.values(), ids=WRONG)
async def test_a_wrong_login_is_a_final_error(auth: Auth, message: str) -> None:
    """The error is one line that does not show the sent fields."""
    assert auth.login is not None
    bad = {"password": "wrong-pass", "user": USER}
    login = replace(auth.login, json=bad) if auth.login.json else replace(auth.login, data=bad)
    server = AuthServer()
    async with server.serving() as url, Egress(client(url, replace(auth, login=login))) as egress:
        with pytest.raises(errors.AuthFailed) as caught:
            await egress.send("GET", f"{url}/items/1")
        with pytest.raises(errors.AuthFailed):
            await egress.send("GET", f"{url}/items/1")
    assert caught.value.final
    assert message in str(caught.value)
    assert "wrong-pass" not in str(caught.value)
    assert len(server.login_requests) == 1
    assert server.served == server.denied == 0


async def test_success_when_may_hold_after_redirects() -> None:
    """Redirects are followed until the condition is true."""
    server = AuthServer()
    auth = replace(FORM, success_when=when("contains(text, 'hello')"))
    async with server.serving() as url, Egress(client(url, auth)) as egress:
        assert (await egress.send("GET", f"{url}/items/1")).status == 200
    assert [path for path, _ in server.received][:3] == ["/login", "/do-login?next=/", "/home"]


FORMS = {
    "no such form": ("#logon", "<form id=login>", "form: '#logon' matches nothing"),
    "no form": ("div", "<div></div>", "form: 'div' matches <div> instead of <form>"),
    "no selector": ("form[", "<form>", "form: 'form[' is not a valid CSS selector"),
    "elsewhere": (
        "form",
        "<form method=post action='http://evil.test/x'>",
        "the form submits to another origin, http://evil.test/x",
    ),
    "a script": (
        "form",
        "<form method=post action='javascript:go()'>",
        "the form submits to another origin, javascript:go()",
    ),
}


@pytest.mark.parametrize(("selector", "page", "message"), FORMS.values(), ids=FORMS)
async def test_a_form_that_cannot_be_submitted_is_an_error(selector: str, page: str, message: str) -> None:
    """A page can never direct the password to another origin."""
    auth = replace(FORM, login=Login("login", form=selector, data=DATA))
    async with AuthServer(page=page).serving() as url, Egress(client(url, auth)) as egress:
        with pytest.raises(errors.AuthFailed) as caught:
            await egress.send("GET", f"{url}/")
    assert message in str(caught.value)
    assert caught.value.final


async def test_a_form_by_get_sends_its_fields_in_the_query() -> None:
    """As in browsers, the query of the action is replaced, and its URL is relative to the page's base."""
    page = "<base href='/there/?x=1'><form action='home?y=2'><input type=hidden name=h value='a b'></form>"
    auth = Auth("session", login=Login("login", form="form", data={"user": USER}), session_token_path="t")
    server = AuthServer(page=page)
    async with server.serving() as url, Egress(client(url, auth)) as egress:
        with pytest.raises(errors.AuthFailed, match="the response is 404, not a success"):
            await egress.send("GET", f"{url}/")
    assert [path for path, _ in server.received] == ["/login", f"/there/home?h=a+b&user={USER}"]


async def test_cookies_of_later_responses_are_used() -> None:
    """If a server renames the session in each response, the new name is used, as in a browser."""
    server = AuthServer()

    async def api(request: web.Request) -> web.Response:
        session = request.cookies.get("sid", "")
        if session not in server.sessions:
            return web.Response(status=401)
        server.sessions.discard(session)
        response = web.json_response([])
        server._start_session(response)
        return response

    server.api = api  # type: ignore[method-assign]  # this server only
    async with server.serving() as url, Egress(client(url, FORM)) as egress:
        for n in range(4):
            assert (await egress.send("GET", f"{url}/items/{n}")).status == 200
    assert len(server.login_requests) == 1


async def test_cookies_go_to_the_origin_only() -> None:
    """Another port is another origin, although the domain of the cookie is the same."""
    api, other = AuthServer(), AuthServer()
    async with (
        api.serving() as url,
        other.serving() as other_url,
        Egress(client(url, FORM, allow_hosts=(other_url,))) as egress,
    ):
        assert (await egress.send("GET", f"{url}/items/1")).status == 200
        assert (await egress.send("GET", f"{other_url}/items/1")).status == 401
    assert "Cookie" not in other.received[0][1]


class OneEach:
    """Grants each request one extra request for its credential."""

    def __init__(self) -> None:
        self.left = 1

    async def acquire(self, method: str, url: str, *, own: bool) -> None:
        if own or not self.left:
            raise AuthLimitClosed(method, url, 1.0, own=own)
        self.left -= 1

    def release_while_waiting(self) -> None:
        pass

    async def settle(self, page: Page | None, *, own: bool) -> bool:
        return False


async def test_a_login_that_a_limit_stops_is_continued() -> None:
    """With a limit of one request at a time, the login's page is not requested repeatedly."""
    server = AuthServer()
    async with server.serving() as url, Egress(client(url, FORM)) as egress:
        for own in (False, True):
            with pytest.raises(AuthLimitClosed) as closed:
                await egress.send("GET", f"{url}/items/1", auth_grants=OneEach())
            assert (
                closed.value.own is own
            )  # two of them complete the login, but spend the grant of the request
        assert (await egress.send("GET", f"{url}/items/1", auth_grants=OneEach())).status == 200
    assert [path for path, _ in server.received] == ["/login", "/do-login?next=/", "/items/1"]
