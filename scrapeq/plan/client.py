"""The client section of a plan: base URL, headers, credentials, size and time limits, response cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scrapeq.expression import Expression

STATIC_AUTHS = ("none", "bearer", "api_key", "http_basic")
"""Types of auth whose credential is given in the configuration and sent unchanged."""

TOKEN_AUTHS = ("oauth2_client_credentials", "oauth2_refresh_token", "session")
"""Types of auth whose credential is obtained with a dedicated request and renewed when it expires."""


@dataclass(frozen=True, slots=True)
class Login:
    """
    The request that logs in to a session.

    `form` is the CSS selector of the form on the page at `path`, whose hidden fields are sent along; if it is empty,
    the page is not loaded first. `data` (a form) and `json` hold the values to send; they are secrets.
    """

    path: str  # joined to base_url, or a full URL
    form: str = ""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    """
    Credentials. Their values are secrets, so `repr` omits them.

    `type` is one of STATIC_AUTHS or TOKEN_AUTHS, or the name of an entry point of the group `scrapeq.auth`, which
    receives `options`.
    """

    type: str = "none"
    token: str = field(default="", repr=False)  # bearer: the token; api_key: the key; of a pool: the first
    name: str = ""  # api_key: the header, query parameter or cookie
    location: Literal["header", "query", "cookie"] = "header"
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tokens: tuple[str, ...] = field(
        default=(), repr=False
    )  # a pool; a request uses one whose limits are open
    access_token_url: str = ""  # oauth2: the token endpoint (RFC 6749, 3.2)
    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    client_auth: Literal["body", "basic"] = "body"  # RFC 6749, 2.3.1
    refresh_token: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    token_params: Mapping[str, str] = field(default_factory=dict, repr=False)  # added to the token request
    login: Login | None = None  # session
    success_when: Expression | None = None  # session: over the login response; None means any 2xx or 3xx
    session_token_path: str = ""  # session: path of a token in the login response
    token_header: str = "Authorization"  # the header that a token is sent in
    token_prefix: str | None = None  # the word before the token; None = Bearer, or none in another header
    expires_s: float | None = None  # lifetime of a credential whose response does not state one
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_refreshable(self) -> bool:
        """Whether the credential is obtained, and renewed, with a dedicated request."""
        return self.type in TOKEN_AUTHS

    @property
    def identity(self) -> str:
        """
        The value that distinguishes this credential from others, for limits partitioned by token; "" if there is none.

        It is displayed and stored only as a digest. A refreshable credential keeps its identity when it is renewed.
        """
        if self.token or self.username or self.client_id:
            return self.token or self.username or self.client_id
        return "" if self.type == "none" else self.type


@dataclass(frozen=True, slots=True)
class Cache:
    """
    The response cache (RFC 9111).

    Attributes:
        revalidate: None uses a cached response without a request while it is fresh, then sends a conditional request
            (RFC 9110, 13). True always sends a conditional request. False stores only responses with a freshness
            lifetime and requests stale ones unconditionally.
        max_size: Total size of the cache in bytes, compressed.
    """

    revalidate: bool | None = None
    max_size: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Client:
    """Settings that apply to every request."""

    base_url: str = ""  # never contains "${...}"; "demo://" is the sample API
    user_agent: str = ""  # empty means scrapeq/<version>
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 30.0
    max_body_size: int = 64_000_000
    extract_timeout_s: float = 30.0  # processor seconds for reading one page
    auth: Auth = Auth()
    allow_hosts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)  # all that must be neither stored nor shown
    url_hosts: tuple[
        str, ...
    ] = ()  # the hosts of full URLs in the file; with that of base_url, all that get secrets
    cookies: bool = False  # whether cookies of responses are kept for later requests with the same credential
    cache: Cache | None = None
