"""
The extra requests that a credential needs: token requests, logins, and further requests of an `httpx.Auth`.

Each needs a grant of the limits (`AuthGrants`). Time on the wire counts against the deadline of the request; time
spent waiting for a limit or for a login does not (`Deadline`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

import httpx

from scrapeq.errors import AuthFailed, BadResponse, FetchError, ScrapeqError
from scrapeq.fetch.redirects import Hop, printable
from scrapeq.fetch.response import discard
from scrapeq.fetch.wire import RawResponse
from scrapeq.page import Page

MAX_REQUESTS = 20  # of one `httpx.Auth` for one request

_FLOW_START_S = 0.05  # a flow that takes longer to its first request probably waits for another login
_DECODED_FIELDS = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class AuthLimitClosed(ScrapeqError):
    """
    A limit is closed for a request that a credential needs, so the request behind it was not sent.

    Args:
        method, url: The request that was refused a grant.
        wait_s: Seconds until a retry makes sense; None = unknown, it depends on the response to another request.
        own: The limit is that of the original request, whose grant was spent on a request for its credential.
    """

    def __init__(self, method: str, url: str, wait_s: float | None = None, *, own: bool = False) -> None:
        self.wait_s = wait_s
        self.own = own
        super().__init__(f"the limit for {method} {printable(url)} is closed")


class AuthGrants(Protocol):
    """
    The limits, as seen by the requests that a credential needs. Each caller of `Egress.send` passes its own.

    The caller already has a grant for the original request. The egress calls `acquire` before every extra request and
    `settle` after its response. If an extra request has spent the grant of the original request, `acquire` with
    `own=True` gets another one.
    """

    async def acquire(self, method: str, url: str, *, own: bool) -> None:
        """
        Get a grant for a request, waiting for the limit if the implementation waits.

        Args:
            method, url: The request.
            own: It is the original request. Nothing to do, unless its grant has been spent.

        Raises:
            AuthLimitClosed: the limit is closed, and the implementation does not wait.
        """

    def release_while_waiting(self) -> None:
        """
        Give back the grant of the original request, because it now waits for a login of another request.

        That login may need the grant, so keeping it could block both. `acquire` gets another one afterwards. An
        implementation whose `acquire` never waits may keep the grant.
        """

    async def settle(self, page: Page | None, *, own: bool) -> bool:
        """
        Report the response to a request. Not called for the final response to the original request.

        Args:
            page: The response; None = the request failed without one.
            own: The response is to the original request, which an `httpx.Auth` sends again.

        Returns:
            Whether it was a refusal by a limit, so that the request has to be repeated.
        """


class Unlimited:
    """`AuthGrants` without limits."""

    async def acquire(self, method: str, url: str, *, own: bool) -> None:
        """Grant every request."""

    def release_while_waiting(self) -> None:
        """Do nothing."""

    async def settle(self, page: Page | None, *, own: bool) -> bool:
        """Treat no response as a refusal."""
        return False


class Deadline:
    """
    The time limit of one whole request, as a context manager. Raises TimeoutError when it has passed.

    The time runs while the request is on the wire, not while it waits for a limit or a login (`paused`).
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
        """Stop the time inside the block."""
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
    """The body of a response, read under the caps when an `httpx.Auth` asks for it."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield await self._read()


Send = Callable[[httpx.Request], Awaitable[tuple[Hop, RawResponse]]]
Read = Callable[[Hop, RawResponse], Awaitable[bytes]]


async def run_auth_flow(
    auth: httpx.Auth,
    original: httpx.Request,
    *,
    send: Send,
    send_other: Send,
    read: Read,
    auth_grants: AuthGrants,
    deadline: Deadline,
) -> RawResponse:
    """
    Send every request that the flow of an `httpx.Auth` yields, and return the last response.

    Args:
        auth: The credential.
        original: The request that needs it.
        send: Sends the original request.
        send_other: Sends another request under its own grant, and reads its response.
        read: Reads the body of a response.
        auth_grants: Grants, when the original request is sent again.
        deadline: The deadline of the original request; the time of the flow itself does not count.

    Raises:
        AuthFailed: the flow raised an exception, or sent too few or too many requests.
        FetchError: one of its requests failed.
    """
    flow = auth.async_auth_flow(original)
    try:
        with deadline.paused():
            first = asyncio.ensure_future(_step(flow, None))
            try:
                await asyncio.wait([first], timeout=_FLOW_START_S)
                if not first.done():
                    auth_grants.release_while_waiting()
                request = await first
            finally:
                first.cancel()
        for _ in range(MAX_REQUESTS):
            if request is None:
                raise AuthFailed(f"auth: {type(auth).__name__} did not send a request", final=True)
            own = request is original or (request.method, request.url) == (original.method, original.url)
            if own:
                with deadline.paused():
                    await auth_grants.acquire(request.method, str(request.url), own=True)
                hop, response = await send(request)
            else:
                with deadline.paused():
                    hop, response = await send_other(request)
            try:
                with deadline.paused():
                    following = await _step(flow, _response(hop, response, request, read))
            except BaseException:
                await response.aclose()
                raise
            if following is None:
                return response
            request = following
            await discard(response)
            if own:
                page = Page(str(hop.url), response.status, response.headers, b"")
                await auth_grants.settle(page, own=True)
        raise AuthFailed(f"auth: {type(auth).__name__} sent more than {MAX_REQUESTS} requests", final=True)
    finally:
        await flow.aclose()


def _response(hop: Hop, response: RawResponse, request: httpx.Request, read: Read) -> httpx.Response:
    headers = [field for field in response.headers if field[0].lower() not in _DECODED_FIELDS]
    return httpx.Response(
        response.status, headers=headers, stream=_Body(lambda: read(hop, response)), request=request
    )


async def _step(
    flow: AsyncGenerator[httpx.Request, httpx.Response], response: httpx.Response | None
) -> httpx.Request | None:
    """Return the next request of a flow; None at its end."""
    try:
        return await (anext(flow) if response is None else flow.asend(response))
    except StopAsyncIteration:
        return None
    except (FetchError, TimeoutError):
        raise
    except httpx.HTTPError as error:
        raise BadResponse(f"auth: {error}") from None
    except Exception as error:  # a flow of another package may raise anything
        raise AuthFailed(f"auth: {type(error).__name__}: {error}", final=True) from error
