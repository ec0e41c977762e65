"""OAuth 2.0 (RFC 6749): tokens for a client (4.4), and for a refresh token (6), which may be rotated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import httpx

from scrapeq.clock import Clock
from scrapeq.errors import AuthFailed
from scrapeq.fetch.auth import basic_client
from scrapeq.fetch.redirects import shown
from scrapeq.fetch.refreshable_auth import Issued, Steps, expires_at_s
from scrapeq.page import Page
from scrapeq.plan import Auth

_RETRIED = frozenset({408, 425, 429})  # and 5xx: the same request may be answered later
_SAID_CHARS = 200


class OAuth2:
    """
    A `Login` of RFC 6749.

    Args:
        auth: oauth2_client_credentials or oauth2_refresh_token.
        clock: Wall time.
    """

    def __init__(self, auth: Auth, clock: Clock) -> None:
        self._auth = auth
        self._clock = clock

    def __call__(self, before: Issued | None) -> Steps:
        """A new access token. Raises AuthFailed in the words of the token endpoint (RFC 6749, 5.2)."""
        auth = self._auth
        refresh = before.refresh if before and before.refresh else auth.refresh_token
        page = yield self._request(refresh)
        answer = _members(page)
        access = answer.get("access_token")
        if not 200 <= page.status < 300 or not isinstance(access, str) or not access:
            raise _refused(auth, page, answer)
        rotated = answer.get("refresh_token")
        return Issued(
            access=access,
            refresh=rotated if isinstance(rotated, str) and rotated else refresh,
            expires_at_s=expires_at_s(
                self._clock.now_s(), _seconds(answer.get("expires_in"), auth.expires_s)
            ),
        )

    def _request(self, refresh: str) -> httpx.Request:
        auth = self._auth
        if auth.type == "oauth2_refresh_token":
            fields = {"grant_type": "refresh_token", "refresh_token": refresh}
        else:
            fields = {"grant_type": "client_credentials"}
        if auth.scopes:
            fields["scope"] = " ".join(auth.scopes)
        headers = {"Accept": "application/json"}
        if auth.client_auth == "basic":
            headers["Authorization"] = f"Basic {basic_client(auth)}"
        else:
            own = {"client_id": auth.client_id, "client_secret": auth.client_secret}
            fields |= {name: value for name, value in own.items() if value}  # a public client has no secret
        return httpx.Request(
            "POST", auth.access_token_url, data={**fields, **auth.token_params}, headers=headers
        )


def _members(page: Page) -> Mapping[str, Any]:
    """The members of a token endpoint's answer: JSON, or a form as some send it."""
    try:
        found = page.json()
    except ValueError:
        kind = (page.header("content-type") or "").partition(";")[0].strip().lower()
        found = dict(parse_qsl(page.text)) if kind == "application/x-www-form-urlencoded" else {}
    return found if isinstance(found, dict) else {}


def _seconds(told: Any, otherwise_s: float | None) -> float | None:
    """`expires_in`, also as text; what the file says where the answer does not."""
    if isinstance(told, str | int | float) and not isinstance(told, bool):
        try:
            seconds = float(told)
        except ValueError:
            return otherwise_s
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return otherwise_s


def _refused(auth: Auth, page: Page, answer: Mapping[str, Any]) -> AuthFailed:
    said = [one for one in (answer.get("error"), answer.get("error_description")) if isinstance(one, str)]
    text = ": ".join(" ".join(one.split()) for one in said)[:_SAID_CHARS]
    if not text:
        text = "an answer without access_token" if 200 <= page.status < 300 else "no reason is given"
    message = f"client.auth: {shown(auth.access_token_url)} gives no token: {page.status}, {text}"
    return AuthFailed(message, final=page.status < 500 and page.status not in _RETRIED)
