"""OAuth 2.0 (RFC 6749): the client credentials grant (4.4), and the refresh token grant (6) with rotation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import httpx

from scrapeq.clock import Clock
from scrapeq.errors import AuthFailed
from scrapeq.fetch.auth import basic_client
from scrapeq.fetch.redirects import printable
from scrapeq.fetch.refreshable_auth import IssuedCredential, LoginSteps, expires_at_s, is_final
from scrapeq.page import Page
from scrapeq.plan import Auth

_REASON_CHARS = 200


class OAuth2:
    """
    A `Login` by RFC 6749.

    Args:
        auth: Its type is oauth2_client_credentials or oauth2_refresh_token.
        clock: Wall time.
    """

    def __init__(self, auth: Auth, clock: Clock) -> None:
        self._auth = auth
        self._clock = clock

    def __call__(self, before: IssuedCredential | None) -> LoginSteps:
        """Request an access token. Raises AuthFailed with the reason of the token endpoint (RFC 6749, 5.2)."""
        auth = self._auth
        refresh = before.refresh if before and before.refresh else auth.refresh_token
        page = yield self._request(refresh)
        members = _members(page)
        access = members.get("access_token")
        if not 200 <= page.status < 300 or not isinstance(access, str) or not access:
            raise _refused(auth, page, members)
        rotated = members.get("refresh_token")
        return IssuedCredential(
            access=access,
            refresh=rotated if isinstance(rotated, str) and rotated else refresh,
            expires_at_s=expires_at_s(
                self._clock.now_s(), _seconds(members.get("expires_in"), auth.expires_s)
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
            fields |= {
                name: value for name, value in own.items() if value
            }  # a public client does not send a secret
        return httpx.Request(
            "POST", auth.access_token_url, data={**fields, **auth.token_params}, headers=headers
        )


def _members(page: Page) -> Mapping[str, Any]:
    """Return the members of a response of the token endpoint: JSON, or form-encoded as some servers send it."""
    try:
        found = page.json()
    except ValueError:
        kind = (page.header("content-type") or "").partition(";")[0].strip().lower()
        found = dict(parse_qsl(page.text)) if kind == "application/x-www-form-urlencoded" else {}
    return found if isinstance(found, dict) else {}


def _seconds(expires_in: Any, default_s: float | None) -> float | None:
    """Return `expires_in`, a number or numeric text; the default of the configuration for anything else."""
    if isinstance(expires_in, str | int | float) and not isinstance(expires_in, bool):
        try:
            seconds = float(expires_in)
        except ValueError:
            return default_s
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return default_s


def _refused(auth: Auth, page: Page, members: Mapping[str, Any]) -> AuthFailed:
    reasons = [
        one for one in (members.get("error"), members.get("error_description")) if isinstance(one, str)
    ]
    text = ": ".join(" ".join(one.split()) for one in reasons)[:_REASON_CHARS]
    if not text:
        text = "the response lacks access_token" if 200 <= page.status < 300 else "without a reason"
    message = f"client.auth: {printable(auth.access_token_url)} did not issue a token: {page.status}, {text}"
    return AuthFailed(message, final=is_final(page.status))
