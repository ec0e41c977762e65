"""
What goes out beside a request for its credential's sake: token requests, logins, further requests of an `httpx.Auth`.

Each passes the limits (`AuthGrants`), and its time counts; the time that is spent waiting for them does not (`Deadline`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

import httpx

from scrapeq.errors import AuthFailed, BadResponse, FetchError, ScrapeqError
from scrapeq.fetch.redirects import Hop, shown
from scrapeq.fetch.response import drop
from scrapeq.fetch.wire import RawResponse
from scrapeq.page import Page

MAX_REQUESTS = 20  # of one `httpx.Auth` for one request

_FLOW_WAITS_S = 0.05  # before its first request; what takes longer waits for something
_DECODED_AWAY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class AuthLimitClosed(ScrapeqError):
    """
    A limit is closed for a request that a credential needs, so the request behind it was not sent.

    `wait_s`: until it is worth asking again; None = an answer to somebody else says. `own`: the limit is that of the
    request itself, whose grant an earlier request of its credential has used.
    """

    def __init__(self, method: str, url: str, wait_s: float | None = None, *, own: bool = False) -> None:
        self.wait_s = wait_s
        self.own = own
        super().__init__(f"the limit for {method} {shown(url)} is closed")


class AuthGrants(Protocol):
    """Grants for what a credential needs."""

    async def begin(self, method: str, url: str, *, own: bool) -> None:
        """
        Before each request. `own`: it is the one that was granted already, unless that grant was used up.

        Raises AskingClosed, or waits.
        """

    def rest(self) -> None:
        """
        The request waits for somebody else's login: where `begin` waits, too, its own grant is given back, so that
        nobody waits for what only it can give back. `begin` takes another one.
        """

    async def end(self, page: Page | None, *, own: bool) -> bool:
        """
        Its answer; None when there was none. Not called for the answer that is the request's own.

        Returns:
            Whether it was a refusal by a limit: then it is begun again.
        """


class Unlimited:
    """Without limits."""

    async def begin(self, method: str, url: str, *, own: bool) -> None:
        """Always."""

    def rest(self) -> None:
        """There is no grant."""

    async def end(self, page: Page | None, *, own: bool) -> bool:
        """Never a refusal."""
        return False


class Deadline:
    """
    Seconds for one whole request; raises TimeoutError when they are over.

    They run while it is on the wire, not while it waits for a limit or for a login (`paused`).
    """

    def __init__(self, limit_s: float) -> None:
        self._timeout = asyncio.timeout(limit_s)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._timeout.__aexit__(exc_type, exc, traceback)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile takes no time of it."""
        timeout, loop = self._timeout, asyncio.get_running_loop()
        when_s = timeout.when()
        if when_s is None or timeout.expired():
            yield
            return
        left_s = when_s - loop.time()
        timeout.reschedule(None)
        try:
            yield
        finally:
            timeout.reschedule(loop.time() + left_s)


class _Body(httpx.AsyncByteStream):
    """An answer's body, read under the caps when an `httpx.Auth` wants it."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield await self._read()


Send = Callable[[httpx.Request], Awaitable[tuple[Hop, RawResponse]]]
Read = Callable[[Hop, RawResponse], Awaitable[bytes]]


async def through(
    auth: httpx.Auth,
    original: httpx.Request,
    *,
    send: Send,
    ask: Send,
    read: Read,
    auth_grants: AuthGrants,
    deadline: Deadline,
) -> RawResponse:
    """
    A request by the way of an `httpx.Auth`: every request that its flow yields is sent, the last answer counts.

    Args:
        auth: The credential.
        original: The request that it is for.
        send: Sends that one.
        ask: Sends another one, under a grant of its own, and reads its answer.
        read: Reads the body of an answer.
        asking: Grants for the original when it is sent again.
        deadline: Of the original; what the flow does by itself takes no time of it.

    Raises:
        AuthFailed: the flow itself broke.
        FetchError: one of its requests did.
    """
    flow = auth.async_auth_flow(original)
    try:
        with deadline.paused():
            first = asyncio.ensure_future(_step(flow, None))
            try:
                await asyncio.wait([first], timeout=_FLOW_WAITS_S)
                if not first.done():  # it may wait for the login of another one
                    auth_grants.rest()
                request = await first
            finally:
                first.cancel()
        for _ in range(MAX_REQUESTS):
            if request is None:
                raise AuthFailed(f"auth: {type(auth).__name__} sends no request", final=True)
            own = request is original or (request.method, request.url) == (original.method, original.url)
            if own:
                with deadline.paused():
                    await auth_grants.begin(request.method, str(request.url), own=True)
                hop, answer = await send(request)
            else:
                with deadline.paused():
                    hop, answer = await ask(request)
            try:
                with deadline.paused():
                    following = await _step(flow, _response(hop, answer, request, read))
            except BaseException:
                await answer.aclose()
                raise
            if following is None:
                return answer
            request = following
            await drop(answer)
            if own:
                await auth_grants.end(Page(str(hop.url), answer.status, answer.headers, b""), own=True)
        raise AuthFailed(f"auth: {type(auth).__name__} sends more than {MAX_REQUESTS} requests", final=True)
    finally:
        await flow.aclose()


def _response(hop: Hop, answer: RawResponse, request: httpx.Request, read: Read) -> httpx.Response:
    headers = [field for field in answer.headers if field[0].lower() not in _DECODED_AWAY]
    return httpx.Response(
        answer.status, headers=headers, stream=_Body(lambda: read(hop, answer)), request=request
    )


async def _step(
    flow: AsyncGenerator[httpx.Request, httpx.Response], response: httpx.Response | None
) -> httpx.Request | None:
    """The next request of a flow; None at its end."""
    try:
        return await (anext(flow) if response is None else flow.asend(response))
    except StopAsyncIteration:
        return None
    except (FetchError, TimeoutError):
        raise
    except httpx.HTTPError as error:
        raise BadResponse(f"auth: {error}") from None
    except Exception as error:  # whatever a flow that others wrote may raise
        raise AuthFailed(f"auth: {type(error).__name__}: {error}", final=True) from error
