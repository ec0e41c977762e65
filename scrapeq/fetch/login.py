"""A session: a login form or a JSON login, whose answer sets cookies or holds a token."""

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
from scrapeq.fetch.redirects import joined, origin, shown
from scrapeq.fetch.refreshable_auth import Issued, Steps, expires_at_s
from scrapeq.page import Page
from scrapeq.plan import Auth, Login

MAX_HOPS = 5  # redirects of the login page, and of the login's answer

_FORM = "application/x-www-form-urlencoded"
_NOT_SENT = frozenset({"submit", "button", "image", "reset", "file"})  # HTML, 4.10.21.4: what no click sends
_IF_CHECKED = frozenset({"checkbox", "radio"})
_RETRIED = frozenset({408, 425, 429})


class SessionLogin:
    """
    A `Login` by a form or by JSON.

    The answer is a success when `success_when` holds over it, or over one that its redirects lead to (of the same
    origin); without `success_when` when it is a 2xx or 3xx that sets a cookie or holds the token.

    Args:
        auth: session.
        base_url: What the login's path is joined to.
        clock: Wall time.
    """

    def __init__(self, auth: Auth, base_url: str, clock: Clock) -> None:
        assert auth.login is not None
        self._auth = auth
        self._login: Login = auth.login
        self._url = joined(base_url, auth.login.path)
        self._clock = clock

    def __call__(self, before: Issued | None) -> Steps:
        """A new session. Raises AuthFailed."""
        jar = Cookies(())
        request = yield from self._first(jar)
        pages = [(yield from self._send(request, jar))]
        while not self._succeeded(pages[-1]):
            following = self._redirect(pages[-1])
            if following is None or len(pages) > MAX_HOPS:
                raise self._refused(pages)
            pages.append((yield from self._send(following, jar)))
        token = self._token(pages[-1])
        cookies = jar.kept()
        if not token and (self._auth.session_token_path or not cookies):
            path = self._auth.session_token_path
            missing = f"holds no {path}" if path else "sets no cookie"
            raise self._error(f"the answer ({pages[-1].status}) {missing}", final=True)
        return Issued(
            access=token,
            cookies=cookies,
            expires_at_s=expires_at_s(self._clock.now_s(), self._auth.expires_s),
        )

    def _first(self, jar: Cookies) -> Generator[httpx.Request, Page, httpx.Request]:
        """The login itself; where it is a form, by what its page says."""
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
            raise self._error(f"the page of the form answers {page.status}", final=_is_final(page.status))
        return self._filled(page)

    def _filled(self, page: Page) -> httpx.Request:
        """The form with our values, as a browser sends it (HTML, 4.10.21)."""
        tree, selector = LexborHTMLParser(page.text), self._login.form
        try:
            form = tree.css_first(selector)
        except SelectolaxError:
            raise self._error(f"form: {selector!r} is no CSS selector", final=True) from None
        if form is None or form.tag != "form":
            what = "nothing" if form is None else f"<{form.tag}>, which is no <form>"
            raise self._error(f"form: {selector!r} finds {what} on {shown(page.url)}", final=True)
        base = tree.css_first("base[href]")
        here = urljoin(page.url, (base.attributes.get("href") or "") if base else "")
        target = urljoin(here, (form.attributes.get("action") or "").strip() or page.url)
        self._check_origin(target, "the form sends to")
        given = dict(_texts(self._login.data))
        fields = [(name, value) for name, value in _controls(form) if name not in given]
        method = (form.attributes.get("method") or "get").upper()
        request = _form_request("POST" if method == "POST" else "GET", target, [*fields, *given.items()])
        request.headers["Referer"] = page.url  # frameworks hold it against forged forms
        return request

    def _send(self, request: httpx.Request, jar: Cookies) -> Generator[httpx.Request, Page, Page]:
        fields = jar.put(request.url, [])
        request.headers.update(fields)
        page = yield request
        jar.hear(request.url, page.headers)
        return page

    def _redirect(self, page: Page) -> httpx.Request | None:
        location = page.header("location")
        if page.status not in redirects.STATUSES or not location:
            return None
        target = urljoin(page.url, location.strip())
        self._check_origin(target, "the login redirects to")
        return httpx.Request("GET", target)

    def _check_origin(self, url: str, what: str) -> None:
        """What an answer says never takes the secrets elsewhere."""
        try:
            same = origin(redirects.parse(url)) == origin(redirects.parse(self._url))
        except ScrapeqError:
            same = False
        if not same:
            raise self._error(f"{what} {shown(url)}, which is another origin", final=True)

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
        why = "which is no success" if self._auth.success_when is None else "and success_when does not hold"
        return self._error(f"the answer is {statuses}, {why}", final=_is_final(pages[-1].status))

    def _error(self, text: str, *, final: bool) -> AuthFailed:
        return AuthFailed(f"client.auth: no session at {shown(self._url)}: {text}", final=final)


def _is_final(status: int) -> bool:
    return status < 500 and status not in _RETRIED


def _value_at(path: str, body: Any) -> Any:
    """What a path leads to: JMESPath, or JSONPath (RFC 9535) when it begins with "$"; ValueError for none."""
    if not path.startswith("$"):
        return jmespath.search(path, body)
    import jsonpath_rfc9535  # few files need it

    node = jsonpath_rfc9535.find_one(path, body)
    return None if node is None else node.value


def _texts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Form fields; null is left out, as in params."""
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
    """The form's own fields with their values: hidden ones, and what it is filled with already."""
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
            chosen = [one for one in options if "selected" in one.attributes] or options[:1]
            for one in chosen:
                value = one.attributes.get("value")
                found.append((name, one.text(strip=True) if value is None else value))
        elif kind not in _NOT_SENT and (kind not in _IF_CHECKED or "checked" in attributes):
            value = attributes.get("value")
            found.append((name, ("on" if kind in _IF_CHECKED else "") if value is None else value))
    return found
