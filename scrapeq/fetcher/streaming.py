"""Fetch many pages concurrently, and yield each as soon as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

from scrapeq.errors import ScrapeqError
from scrapeq.page import Page

MAX_PENDING = 1_000  # URLs taken from the caller whose pages are still to come


async def pages_of(
    get: Callable[[str], Awaitable[Page]],
    urls: Iterable[str] | AsyncIterable[str],
    on_error: Callable[[str, ScrapeqError], None] | None = None,
    *,
    at_once: int,
) -> AsyncIterator[Page]:
    """
    Yield the pages of these URLs, in no particular order; see `Fetcher.stream`.

    Args:
        get: Fetches one page; it limits the concurrency.
        urls: Taken as they are needed.
        on_error: Called with each URL that fails and its error; None = all errors are raised together at the end.
        at_once: Pages that wait for the caller, at most.

    Raises:
        ExceptionGroup: of ScrapeqErrors, after the last page.
    """
    errors: list[ScrapeqError] = []
    pages: asyncio.Queue[Page | None] = asyncio.Queue(at_once)
    room = asyncio.Semaphore(MAX_PENDING)

    async def fetch(url: str) -> None:
        try:
            page = await get(url)
        except ScrapeqError as error:
            if on_error is not None:
                on_error(url, error)
            else:
                errors.append(error)
        else:
            await pages.put(page)
        finally:
            room.release()

    async def feed() -> None:
        async with asyncio.TaskGroup() as tasks:
            async for url in _each(urls):
                await room.acquire()
                tasks.create_task(fetch(url))
        await pages.put(None)

    feeding = asyncio.ensure_future(feed())
    feeding.add_done_callback(lambda done: None if done.cancelled() else _end(pages, done))
    try:
        while (page := await pages.get()) is not None:
            yield page
        await feeding
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
    if errors:
        raise ExceptionGroup(f"{len(errors)} URLs failed", errors)


async def _each(urls: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    if isinstance(urls, AsyncIterable):
        async for url in urls:
            yield url
    else:
        for url in urls:
            yield url


def _end(pages: asyncio.Queue[Page | None], done: asyncio.Future[None]) -> None:
    """Wake the reader when the feeder failed; the reader raises its error."""
    if done.exception() is not None:
        while pages.full():
            pages.get_nowait()
        pages.put_nowait(None)
