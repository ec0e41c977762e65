"""
Credentials that are asked for with requests of their own: one login at a time, shared by all who need it.

What a login gave is used until it runs out, or until an answer shows that it is bad (`forget`). A login that failed is
told to all who waited for it, and is not tried again before a pause, a final one never again.
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

from scrapeq.clock import Clock
from scrapeq.errors import AuthFailed, Blocked, FetchError
from scrapeq.fetch.auth import Credential, Fields, bearer
from scrapeq.fetch.auth_requests import AuthLimitClosed
from scrapeq.fetch.cookies import Cookies, StoredCookie
from scrapeq.fetch.token_file import TokenFile
from scrapeq.page import Page

MARGIN_S = 30.0  # a credential is asked for anew so long before it runs out,
MARGIN_SHARE = 0.1  # but no more than this share of its lifetime
PAUSE_FIRST_S, PAUSE_MAX_S = 1.0, 300.0  # after a failed login; doubling

_REMEMBERED_SECRETS = 32  # that were obtained, so that no error shows one

Ask = Callable[[httpx.Request], Awaitable[Page]]
"""Sends a request through the egress, under its guard, caps, deadline and limits. Raises FetchError."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What a login gave. `expires_at_s`: Unix seconds; None = nobody says. `stamp` tells one from the next."""

    access: str = ""
    refresh: str = ""
    cookies: tuple[StoredCookie, ...] = ()
    expires_at_s: float | None = None
    stamp: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str
    final: bool
    at_s: float
    pause_s: float
    in_a_row: int = 1

    def error(self) -> AuthFailed:
        return AuthFailed(self.message, final=self.final, pause_s=self.pause_s)


Steps = Generator[httpx.Request, Page, Issued]
Login = Callable[[Issued | None], Steps]
"""
Asks for a credential, given the one before, if there was one: yields each request, is sent its answer, and returns what
was given. Where a limit stops it between two steps, it goes on with the grants of who comes next. Raises AuthFailed.
"""


@dataclass(slots=True)
class _Attempt:
    """A login on its way."""

    steps: Steps
    request: httpx.Request  # the next one to send


_sent_with: ContextVar[str] = ContextVar("sent_with", default="")


def expires_at_s(now_s: float, lifetime_s: float | None) -> float | None:
    """When a credential of this lifetime is asked for anew."""
    if lifetime_s is None:
        return None
    return now_s + lifetime_s - min(MARGIN_S, lifetime_s * MARGIN_SHARE)


class RefreshableAuth:
    """
    Args:
        login: Asks for a credential.
        kept: Where what it gave is shared and kept.
        clock: Wall time.
    """

    def __init__(self, login: Login, kept: TokenFile, clock: Clock) -> None:
        self._login = login
        self._kept = kept
        self._clock = clock
        self._issued: Issued | None = None
        self._cookies = Cookies(())
        self._bad = ""  # the stamp of one that was refused
        self._failure: _Failure | None = None
        self._is_final = False
        self._renewing: asyncio.Task[None] | None = None
        self._attempt: _Attempt | None = None
        self.secrets: deque[str] = deque(maxlen=_REMEMBERED_SECRETS)

    def ready(self) -> Credential | None:
        """What puts the credential on a request; None: it has to be asked for (`renew`)."""
        return self._put if self._is_good(self._issued) else None

    @property
    def is_renewing(self) -> bool:
        """Whether somebody asks for one already."""
        return self._renewing is not None and not self._renewing.done()

    async def renew(self, ask: Ask) -> Credential:
        """
        Ask for a new one, or wait for who does.

        Raises:
            AuthFailed: there is none; all who waited are told the same.
            ScrapeqError: whatever `ask` raises of limits.
        """
        if self._renewing is None or not self.is_renewing:
            # a task of its own: an answer with a rotated refresh token must not be lost with the request that needed it
            self._renewing = asyncio.create_task(self._renew(ask))
            self._renewing.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.shield(self._renewing)
        except AuthFailed as error:  # each who waited is told by an error of his own
            raise AuthFailed(str(error), final=error.final, pause_s=error.pause_s) from None
        return self._put

    def forget(self) -> bool:
        """
        The one that the last request of this asyncio task carried is bad.

        Returns:
            False where another request has shown it already.
        """
        if self._issued is None or _sent_with.get() != self._issued.stamp or self._bad == self._issued.stamp:
            return False
        self._bad = self._issued.stamp
        return True

    def hear(self, page_url: httpx.URL, headers: Sequence[tuple[str, str]]) -> None:
        """An answer to a request with this credential: it may set the session's cookies anew."""
        if self._issued is not None and self._issued.cookies and _sent_with.get() == self._issued.stamp:
            self._cookies.hear(page_url, headers)
            self.secrets.extend(cookie["value"] for cookie in self._cookies.kept())

    async def aclose(self) -> None:
        """Nobody waits any more."""
        if self._renewing is not None and not self._renewing.done():
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    def _is_good(self, issued: Issued | None) -> bool:
        if issued is None or issued.stamp == self._bad or not (issued.access or issued.cookies):
            return False
        return issued.expires_at_s is None or self._clock.now_s() < issued.expires_at_s

    def _put(self, url: httpx.URL, fields: Fields) -> tuple[httpx.URL, Fields]:
        issued = self._issued
        assert issued is not None
        _sent_with.set(issued.stamp)
        if issued.cookies:
            fields = self._cookies.put(url, fields)
        return bearer(issued.access)(url, fields) if issued.access else (url, fields)

    def _adopt(self, issued: Issued) -> None:
        self._issued = issued
        self._cookies = Cookies(issued.cookies)
        self._failure = None
        found = (issued.access, issued.refresh, *(cookie["value"] for cookie in issued.cookies))
        self.secrets.extend(one for one in found if one)

    async def _renew(self, ask: Ask) -> None:
        began_s = self._clock.now_s()
        self._raise_if_failed(began_s)
        async with self._kept.held():
            record = self._kept.read()
            kept = _issued_of(record)
            if kept is not None and self._is_good(kept):
                self._adopt(kept)  # somebody else has asked meanwhile, or before this run
                self._attempt = None
                return
            self._failure = _failure_of(record, began_s) or self._failure
            self._raise_if_failed(began_s)
            # what was kept is never older than what is known here: it is written before it is used
            try:
                issued = await self._go_on(ask, kept or self._issued)
            except FetchError as error:
                raise self._failed(error, record) from None
            self._adopt(issued)
            self._kept.write({"issued": asdict(issued)})

    async def _go_on(self, ask: Ask, before: Issued | None) -> Issued:
        """The login from where it stopped. Raises AskingClosed where it stops again."""
        if self._attempt is None:
            steps = self._login(before)
            self._attempt = _Attempt(steps, next(steps))
        attempt = self._attempt
        try:
            while True:
                page = await ask(attempt.request)
                try:
                    attempt.request = attempt.steps.send(page)
                except StopIteration as end:
                    self._attempt = None
                    issued: Issued = end.value
                    return issued
        except AuthLimitClosed:
            raise
        except BaseException:
            self._attempt = None
            raise

    def _raise_if_failed(self, since_s: float) -> None:
        """A login that failed for good, since we began to wait, or so lately that it is too soon to try again."""
        failure = self._failure
        if failure is None:
            return
        since = failure.at_s >= since_s
        if self._is_final or since or self._clock.now_s() < failure.at_s + failure.pause_s:
            raise failure.error()

    def _failed(self, error: FetchError, record: dict[str, Any]) -> AuthFailed:
        in_a_row = self._failure.in_a_row + 1 if self._failure else 1
        text = str(error) if isinstance(error, AuthFailed) else f"client.auth: {error}"
        self._is_final = error.final if isinstance(error, AuthFailed) else isinstance(error, Blocked)
        pause_s = 0.0 if self._is_final else min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** min(in_a_row - 1, 16))
        self._failure = _Failure(text, self._is_final, self._clock.now_s(), pause_s, in_a_row)
        self._kept.write({"issued": record.get("issued"), "failure": asdict(self._failure)})
        return self._failure.error()


def _issued_of(record: dict[str, Any]) -> Issued | None:
    """What a file holds; None when it is not what was written there."""
    try:
        kept = dict(record["issued"])
        return Issued(**{**kept, "cookies": tuple(kept["cookies"])})
    except (KeyError, TypeError, ValueError):
        return None


def _failure_of(record: dict[str, Any], now_s: float) -> _Failure | None:
    """What another process failed at lately."""
    try:
        failure = _Failure(**record["failure"])
    except (KeyError, TypeError):
        return None
    return failure if now_s < failure.at_s + PAUSE_MAX_S else None
