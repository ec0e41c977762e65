"""
Credentials that are obtained with requests: one login at a time, shared by all requests that need it.

A credential is used until it expires, or until a response shows that it is invalid (`invalidate`). A failed login
fails every request that waited for it. It is retried after a pause, or never if the failure is final.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from scrapeq.backoff import exponential_s
from scrapeq.clock import Clock
from scrapeq.errors import AuthFailed, Blocked, FetchError
from scrapeq.fetch.auth import Credential, Fields
from scrapeq.fetch.auth_requests import AuthLimitClosed
from scrapeq.fetch.cookies import Cookies, StoredCookie
from scrapeq.fetch.token_file import TokenFile
from scrapeq.page import Page

MARGIN_S = 30.0  # a credential is refreshed this long before it expires,
MARGIN_SHARE = 0.1  # but at most this share of its lifetime before
PAUSE_FIRST_S, PAUSE_MAX_S = 1.0, 300.0  # after a failed login

RETRIED_STATUSES = frozenset({408, 425, 429})  # and 5xx: the same login may succeed later
_REMEMBERED_SECRETS = 32  # issued values that error messages must not show

SendLoginRequest = Callable[[httpx.Request], Awaitable[Page]]
"""Sends a request through the egress, under its guard, caps, deadline and limits. Raises FetchError."""


@dataclass(frozen=True, slots=True)
class IssuedCredential:
    """
    The result of a login. It is stored as JSON, so its fields are a file format.

    Args:
        access: The token that requests carry; "" = only cookies.
        refresh: The refresh token for the next login; "" = none.
        cookies: The cookies of the session.
        expires_at_s: When to refresh it, Unix seconds; None = unknown.
        stamp: A random id of this credential.
    """

    access: str = ""
    refresh: str = ""
    cookies: tuple[StoredCookie, ...] = ()
    expires_at_s: float | None = None
    stamp: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed login. It is stored as JSON, so its fields are a file format."""

    message: str
    final: bool
    at_s: float
    pause_s: float
    in_a_row: int = 1

    def error(self) -> AuthFailed:
        return AuthFailed(self.message, final=self.final, pause_s=self.pause_s)


LoginSteps = Generator[httpx.Request, Page, IssuedCredential]
Login = Callable[[IssuedCredential | None], LoginSteps]
"""
A login as a generator function, called with the previous credential, if any.

The generator yields each request, receives its response, and returns the credential. If a limit is closed between two
steps, another task may continue the same generator later, under its own grants. Raises AuthFailed.
"""


@dataclass(slots=True)
class _Attempt:
    """A login that has started."""

    steps: LoginSteps
    request: httpx.Request  # the next one to send


_sent_with: ContextVar[str] = ContextVar("sent_with", default="")
"""The stamp of the credential that the last request of this asyncio task carried."""


def expires_at_s(now_s: float, lifetime_s: float | None) -> float | None:
    """Return when to refresh a credential with this lifetime, Unix seconds; None if the lifetime is unknown."""
    if lifetime_s is None:
        return None
    return now_s + lifetime_s - min(MARGIN_S, lifetime_s * MARGIN_SHARE)


def is_final(status: int) -> bool:
    """Return whether a failed login with this status must not be retried."""
    return status < 500 and status not in RETRIED_STATUSES


class RefreshableAuth:
    """
    A credential that is obtained by a login and refreshed when needed.

    Args:
        login: Obtains a credential.
        credential: Sends a token that was issued.
        token_file: Stores it, and shares it with other processes.
        clock: Wall time.

    Attributes:
        secrets: The most recently issued tokens and cookies, to be redacted in messages.
    """

    def __init__(
        self, login: Login, credential: Callable[[str], Credential], token_file: TokenFile, clock: Clock
    ) -> None:
        self._login = login
        self._credential = credential
        self._token_file = token_file
        self._clock = clock
        self._issued: IssuedCredential | None = None
        self._cookies = Cookies(())
        self._invalid_stamp = ""  # of the last credential that was found invalid
        self._failure: _Failure | None = None
        self._is_final = False
        self._refreshing: asyncio.Task[None] | None = None
        self._attempt: _Attempt | None = None
        self.secrets: deque[str] = deque(maxlen=_REMEMBERED_SECRETS)

    def current(self) -> Credential | None:
        """Return the credential; None if it has to be obtained with `refresh` first."""
        return self._apply if self._is_valid(self._issued) else None

    @property
    def is_refreshing(self) -> bool:
        """Whether a login is in progress."""
        return self._refreshing is not None and not self._refreshing.done()

    async def refresh(self, send: SendLoginRequest) -> Credential:
        """
        Obtain a new credential, or wait for the login in progress.

        Raises:
            AuthFailed: the login failed; every waiting request gets the same message.
            ScrapeqError: whatever `send` raises about limits.
        """
        if self._refreshing is None or not self.is_refreshing:
            # A separate task: cancelling one request must not lose a response with a rotated refresh token.
            self._refreshing = asyncio.create_task(self._refresh(send))
            self._refreshing.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.shield(self._refreshing)
        except AuthFailed as error:  # each waiting request raises its own exception object
            raise AuthFailed(str(error), final=error.final, pause_s=error.pause_s) from None
        return self._apply

    def invalidate(self) -> bool:
        """
        Mark the credential that the last request of this asyncio task carried as invalid.

        Returns:
            False if another request has done so before, or a newer credential is in use.
        """
        issued = self._issued
        if issued is None or _sent_with.get() != issued.stamp or self._invalid_stamp == issued.stamp:
            return False
        self._invalid_stamp = issued.stamp
        return True

    def observe(self, page_url: httpx.URL, headers: Sequence[tuple[str, str]]) -> None:
        """Update the cookies of the session from a response to a request with this credential."""
        if self._issued is not None and self._issued.cookies and _sent_with.get() == self._issued.stamp:
            self._cookies.extract(page_url, headers)
            self.secrets.extend(cookie["value"] for cookie in self._cookies.dump())

    async def aclose(self) -> None:
        """Cancel the login in progress."""
        if self._refreshing is not None and not self._refreshing.done():
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    def _is_valid(self, issued: IssuedCredential | None) -> bool:
        if issued is None or issued.stamp == self._invalid_stamp or not (issued.access or issued.cookies):
            return False
        return issued.expires_at_s is None or self._clock.now_s() < issued.expires_at_s

    def _apply(self, url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        issued = self._issued
        assert issued is not None
        _sent_with.set(issued.stamp)
        if issued.cookies:
            fields = self._cookies.add_to(url, fields)
        return self._credential(issued.access)(url, fields) if issued.access else (url, fields)

    def _adopt(self, issued: IssuedCredential) -> None:
        self._issued = issued
        self._cookies = Cookies(issued.cookies)
        self._failure = None
        values = (issued.access, issued.refresh, *(cookie["value"] for cookie in issued.cookies))
        self.secrets.extend(value for value in values if value)

    async def _refresh(self, send: SendLoginRequest) -> None:
        started_s = self._clock.now_s()
        self._raise_if_failed(started_s)
        async with self._token_file.locked():
            record = self._token_file.read()
            stored = _issued_of(record)
            if stored is not None and self._is_valid(stored):
                self._adopt(stored)  # another process has logged in meanwhile, or before this run
                self._attempt = None
                return
            self._failure = _failure_of(record, started_s) or self._failure
            self._raise_if_failed(started_s)
            # A stored credential is never older than the one in memory: it is written before it is used.
            try:
                issued = await self._continue_login(send, stored or self._issued)
            except FetchError as error:
                raise self._failed(error, record) from None
            self._adopt(issued)
            self._token_file.write({"issued": asdict(issued)})

    async def _continue_login(
        self, send: SendLoginRequest, before: IssuedCredential | None
    ) -> IssuedCredential:
        """Start the login, or continue it where a closed limit stopped it. Raises AuthLimitClosed."""
        if self._attempt is None:
            steps = self._login(before)
            self._attempt = _Attempt(steps, next(steps))
        attempt = self._attempt
        try:
            while True:
                page = await send(attempt.request)
                try:
                    attempt.request = attempt.steps.send(page)
                except StopIteration as end:
                    self._attempt = None
                    issued: IssuedCredential = end.value
                    return issued
        except AuthLimitClosed:
            raise
        except BaseException:
            self._attempt = None
            raise

    def _raise_if_failed(self, since_s: float) -> None:
        """Raise AuthFailed if a login failed for good, since the caller began to wait, or too recently for a retry."""
        failure = self._failure
        if failure is None:
            return
        is_recent = failure.at_s >= since_s
        if self._is_final or is_recent or self._clock.now_s() < failure.at_s + failure.pause_s:
            raise failure.error()

    def _failed(self, error: FetchError, record: dict[str, Any]) -> AuthFailed:
        in_a_row = self._failure.in_a_row + 1 if self._failure else 1
        text = str(error) if isinstance(error, AuthFailed) else f"client.auth: {error}"
        self._is_final = error.final if isinstance(error, AuthFailed) else isinstance(error, Blocked)
        pause_s = 0.0 if self._is_final else exponential_s(in_a_row, PAUSE_FIRST_S, PAUSE_MAX_S)
        self._failure = _Failure(text, self._is_final, self._clock.now_s(), pause_s, in_a_row)
        self._token_file.write({"issued": record.get("issued"), "failure": asdict(self._failure)})
        return self._failure.error()


def _issued_of(record: dict[str, Any]) -> IssuedCredential | None:
    """Return the stored credential; None if there is none or it is malformed."""
    try:
        stored = dict(record["issued"])
        return IssuedCredential(**{**stored, "cookies": tuple(stored["cookies"])})
    except (KeyError, TypeError, ValueError):
        return None


def _failure_of(record: dict[str, Any], now_s: float) -> _Failure | None:
    """Return the recent failure of another process; None if there is none."""
    try:
        failure = _Failure(**record["failure"])
    except (KeyError, TypeError):
        return None
    return failure if now_s < failure.at_s + PAUSE_MAX_S else None
