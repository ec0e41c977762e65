"""How requests are sent: credentials, headers, caps, what is kept of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scrapeq.expression import Expression

STATIC_AUTHS = ("none", "bearer", "api_key", "http_basic")
"""Credentials that stand in the file and are sent as they are."""

TOKEN_AUTHS = ("oauth2_client_credentials", "oauth2_refresh_token", "session")
"""Credentials that are asked for with a request of their own, and asked for again when they run out."""


@dataclass(frozen=True, slots=True)
class Login:
    """
    The request that begins a session.

    `form`: a CSS selector of the form on the page at `path`, whose hidden fields are sent along; empty = no page is
    read first. `data` (a form) and `json` hold the values; they are secrets.
    """

    path: str  # joined to base_url, or a whole URL
    form: str = ""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    """
    Credentials. Values are secrets: never shown (`repr` leaves them out).

    `type`: none, bearer, api_key, http_basic, oauth2_client_credentials, oauth2_refresh_token, session, or the name
    of an entry point of the group `scrapeq.auth`, which is given `options`.
    """

    type: str = "none"
    token: str = field(default="", repr=False)  # bearer; api_key's value; the first of a pool's
    name: str = ""  # api_key: the header, query parameter or cookie
    location: Literal["header", "query", "cookie"] = "header"
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tokens: tuple[str, ...] = field(default=(), repr=False)  # a pool; the one that has room is sent
    access_token_url: str = ""  # oauth2: where tokens are asked for (RFC 6749, 3.2)
    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    client_auth: Literal["body", "basic"] = "body"  # RFC 6749, 2.3.1
    refresh_token: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    token_params: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  # more fields of the token request
    login: Login | None = None  # session
    success_when: Expression | None = None  # session: over the login's answer; None = a 2xx or 3xx
    session_token_path: str = ""  # session: a token in the login's answer, sent as a bearer token
    expires_s: float | None = None  # when to ask anew, where the answer does not say
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_refreshable(self) -> bool:
        """Whether it is asked for by a request of its own."""
        return self.type in TOKEN_AUTHS

    @property
    def identity(self) -> str:
        """
        What tells this credential from others, to partition limits by: shown and stored as a digest only.

        One that is renewed keeps it, so it is no secret that could be guessed from a digest. Empty: there is none.
        """
        if self.token or self.username or self.client_id:
            return self.token or self.username or self.client_id
        return "" if self.type == "none" else self.type


@dataclass(frozen=True, slots=True)
class Cache:
    """
    Answers are kept (RFC 9111).

    `revalidate`: None: used without a request while they say that they are fresh, then asked for conditionally
    (RFC 9110, 13). True: always asked for conditionally. False: asked for anew once they are no longer fresh, and only
    fresh ones are kept. `max_size`: bytes of all that is kept, compressed.
    """

    revalidate: bool | None = None
    max_size: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Client:
    """How requests are sent."""

    base_url: str = ""  # without "${...}"; "demo://" = the sample API
    user_agent: str = ""  # empty = scrapeq/<version>
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 30.0
    max_body_size: int = 64_000_000
    auth: Auth = Auth()
    allow_hosts: tuple[str, ...] = ()
    cache: Cache | None = None
