"""Session logins: a login form or a JSON login whose response sets cookies or contains a token."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any
from urllib.parse import urlencode, urljoin

import httpx
import jmespath
from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from scrapeq.clock import Clock
from scrapeq.errors import AuthFailed, ScrapeqError
from scrapeq.expression.scope import response_scope
from scrapeq.fetch import redirects
from scrapeq.fetch.cookies import Cookies
from scrapeq.fetch.redirects import join_url, origin, printable
from scrapeq.fetch.refreshable_auth import IssuedCredential, LoginSteps, expires_at_s, is_final
from scrapeq.page import Page
from scrapeq.plan import Auth, Login

MAX_HOPS = 5  # redirects of the login page, and of the login itself

_FORM = "application/x-www-form-urlencoded"
_NOT_SENT = frozenset(
    {"submit", "button", "image", "reset", "file"}
)  # not submitted without a click (HTML, 4.10.21.4)
_IF_CHECKED = frozenset({"checkbox", "radio"})


class SessionLogin:
    """
    A `Login` with a form or with JSON.

    The login succeeds if `success_when` is true for its response, or for a response that its redirects (within the
    same origin) lead to. Without `success_when`, it succeeds with a 2xx or 3xx that sets a cookie or has the token.

    Args:
        auth: Its type is session.
        base_url: The URL that the login's path is joined to.
        clock: Wall time.
    """

    def __init__(self, auth: Auth, base_url: str, clock: Clock) -> None:
        assert auth.login is not None
        self._auth = auth
        self._login: Login = auth.login
        self._url = join_url(base_url, auth.login.path)
        self._clock = clock

    def __call__(self, before: IssuedCredential | None) -> LoginSteps:
        """Start a new session. Raises AuthFailed."""
        jar = Cookies(())
        request = yield from self._first(jar)
        pages = [(yield from self._send(request, jar))]
        while not self._succeeded(pages[-1]):
            following = self._redirect(pages[-1])
            if following is None or len(pages) > MAX_HOPS:
                raise self._refused(pages)
            pages.append((yield from self._send(following, jar)))
        token = self._token(pages[-1])
        cookies = jar.dump()
        if not token and (self._auth.session_token_path or not cookies):
            path = self._auth.session_token_path
            missing = f"does not contain {path}" if path else "does not set a cookie"
            raise self._error(f"the response ({pages[-1].status}) {missing}", final=True)
        return IssuedCredential(
            access=token,
            cookies=cookies,
            expires_at_s=expires_at_s(self._clock.now_s(), self._auth.expires_s),
        )

    def _first(self, jar: Cookies) -> Generator[httpx.Request, Page, httpx.Request]:
        """Return the request that logs in; for a form, after requesting its page."""
        login = self._login
        if not login.form:
            if login.json is not None:
                return httpx.Request("POST", self._url, json=login.json)
            return _form_request("POST", self._url, _texts(login.data))
        page = yield from self._send(httpx.Request("GET", self._url), jar)
        for _ in range(MAX_HOPS):
            following = self._redirect(page)
            if following is None:
                break
            page = yield from self._send(following, jar)
        if not 200 <= page.status < 300:
            raise self._error(f"the page with the form returned {page.status}", final=is_final(page.status))
        return self._filled(page)

    def _filled(self, page: Page) -> httpx.Request:
        """Return the request of the form with the configured values, as a browser sends it (HTML, 4.10.21)."""
        tree, selector = LexborHTMLParser(page.text), self._login.form
        try:
            form = tree.css_first(selector)
        except SelectolaxError:
            raise self._error(f"form: {selector!r} is not a valid CSS selector", final=True) from None
        if form is None or form.tag != "form":
            found = "nothing" if form is None else f"<{form.tag}> instead of <form>"
            raise self._error(f"form: {selector!r} matches {found} on {printable(page.url)}", final=True)
        base = tree.css_first("base[href]")
        here = urljoin(page.url, (base.attributes.get("href") or "") if base else "")
        target = urljoin(here, (form.attributes.get("action") or "").strip() or page.url)
        self._check_origin(target, "the form submits to")
        own = dict(_texts(self._login.data))
        fields = [(name, value) for name, value in _controls(form) if name not in own]
        method = (form.attributes.get("method") or "get").upper()
        request = _form_request("POST" if method == "POST" else "GET", target, [*fields, *own.items()])
        request.headers["Referer"] = page.url  # some frameworks check it against forged requests
        return request

    def _send(self, request: httpx.Request, jar: Cookies) -> Generator[httpx.Request, Page, Page]:
        fields = jar.add_to(request.url, [])
        request.headers.update(fields)
        page = yield request
        jar.extract(request.url, page.headers)
        return page

    def _redirect(self, page: Page) -> httpx.Request | None:
        location = page.header("location")
        if page.status not in redirects.REDIRECT_STATUSES or not location:
            return None
        target = urljoin(page.url, location.strip())
        self._check_origin(target, "the login redirects to")
        return httpx.Request("GET", target)

    def _check_origin(self, url: str, what: str) -> None:
        """Raise AuthFailed for another origin: no response may redirect the secrets elsewhere."""
        try:
            same = origin(redirects.parse_url(url)) == origin(redirects.parse_url(self._url))
        except ScrapeqError:
            same = False
        if not same:
            raise self._error(f"{what} another origin, {printable(url)}", final=True)

    def _succeeded(self, page: Page) -> bool:
        if self._auth.success_when is not None:
            return bool(self._auth.success_when.evaluate(response_scope(page)))
        return 200 <= page.status < 400

    def _token(self, page: Page) -> str:
        if not self._auth.session_token_path:
            return ""
        try:
            found = _value_at(self._auth.session_token_path, page.json())
        except (ValueError, TypeError):
            return ""
        return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""

    def _refused(self, pages: list[Page]) -> AuthFailed:
        statuses = ", then ".join(str(page.status) for page in pages)
        reason = "not a success" if self._auth.success_when is None else "and success_when is false"
        return self._error(f"the response is {statuses}, {reason}", final=is_final(pages[-1].status))

    def _error(self, text: str, *, final: bool) -> AuthFailed:
        return AuthFailed(f"client.auth: login at {printable(self._url)} failed: {text}", final=final)


def _value_at(path: str, body: Any) -> Any:
    """Return the value at a JMESPath, or at a JSONPath (RFC 9535) if it begins with "$". Raises ValueError."""
    if not path.startswith("$"):
        return jmespath.search(path, body)
    import jsonpath_rfc9535  # loaded on first use: few configurations need it

    node = jsonpath_rfc9535.find_one(path, body)
    return None if node is None else node.value


def _texts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return form fields as text; null is left out, as in params."""
    texts = {True: "true", False: "false"}
    return [
        (name, texts[value] if isinstance(value, bool) else str(value))
        for name, value in data.items()
        if value is not None
    ]


def _form_request(method: str, url: str, fields: list[tuple[str, str]]) -> httpx.Request:
    if method == "GET":
        return httpx.Request("GET", httpx.URL(url).copy_with(query=urlencode(fields).encode()))
    return httpx.Request("POST", url, content=urlencode(fields).encode(), headers={"Content-Type": _FORM})


def _controls(form: LexborNode) -> list[tuple[str, str]]:
    """Return the fields of a form with their values: hidden fields, and fields with a default value."""
    found: list[tuple[str, str]] = []
    for node in form.css("input[name], select[name], textarea[name]"):
        attributes = node.attributes
        name, kind = attributes.get("name") or "", (attributes.get("type") or "text").lower()
        if not name or "disabled" in attributes:
            continue
        if node.tag == "textarea":
            found.append((name, node.text()))
        elif node.tag == "select":
            options = node.css("option")
            selected = [option for option in options if "selected" in option.attributes] or options[:1]
            for option in selected:
                value = option.attributes.get("value")
                found.append((name, option.text(strip=True) if value is None else value))
        elif kind not in _NOT_SENT and (kind not in _IF_CHECKED or "checked" in attributes):
            value = attributes.get("value")
            found.append((name, ("on" if kind in _IF_CHECKED else "") if value is None else value))
    return found
