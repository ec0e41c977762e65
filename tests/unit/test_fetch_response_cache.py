"""The response cache file: responses are found again, the size is limited, and a failure is harmless."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from pathlib import Path

from scrapeq.fetch.response_cache import ResponseCache
from scrapeq.page import Page

NOW = 1795500000.0


def page(body: bytes = b"body", **headers: str) -> Page:
    """Return a response with an entity tag."""
    return Page("https://api.example/a", 200, (("ETag", '"a"'), *headers.items()), body)


def sized(number: int, size: int) -> Page:
    """Return a response whose body does not compress."""
    return page(random.Random(number).randbytes(size))


async def test_another_process_finds_a_stored_response(tmp_path: Path) -> None:
    """It finds head, body and times under the key only; a newer response replaces the older one."""
    path = tmp_path / "new" / "api.cache.db"
    one, other = ResponseCache(path, max_size=1_000_000), ResponseCache(path, max_size=1_000_000)
    await one.put(b"key", b"address", page(b"old"), NOW - 10, NOW - 9)
    await one.put(b"key", b"address", page(b"x" * 100_000, Vary="Accept"), NOW - 1, NOW)
    stored = await other.get(b"key")
    assert stored is not None
    assert stored.page().body == b"x" * 100_000
    assert (stored.requested_s, stored.received_s, stored.head.header("vary")) == (NOW - 1, NOW, "Accept")
    assert await other.get(b"another") is None
    assert path.stat().st_mode & 0o777 == 0o600
    await other.forget(address=b"address")
    assert await one.get(b"key") is None
    await one.aclose()
    await other.aclose()


async def test_a_304_updates_the_head_and_keeps_the_body(tmp_path: Path) -> None:
    """The response is fresh again for as long as the 304 says."""
    cache = ResponseCache(tmp_path / "c.db", max_size=1_000_000)
    await cache.put(b"key", b"address", page(), NOW, NOW)
    stored = await cache.get(b"key")
    assert stored is not None and not stored.is_fresh(NOW)
    reported = Page("https://api.example/a", 304, (("Cache-Control", "max-age=60"),), b"")
    await cache.freshen(stored.freshened(reported, NOW + 5, NOW + 6))
    updated = await cache.get(b"key")
    assert updated is not None
    assert updated.page().body == b"body"
    assert updated.is_fresh(NOW + 60) and not updated.is_fresh(NOW + 66)
    await cache.aclose()


async def test_a_304_does_not_update_a_newer_response(tmp_path: Path) -> None:
    """Two fetchers request a URL that changes in between: a head never gets the body of another response."""
    path = tmp_path / "c.db"
    one, other = ResponseCache(path, max_size=1_000_000), ResponseCache(path, max_size=1_000_000)
    await one.put(b"key", b"address", page(b"old"), NOW, NOW)
    stored = await one.get(b"key")
    assert stored is not None
    new = Page("https://api.example/a", 200, (("ETag", '"b"'),), b"new")
    await other.put(b"key", b"address", new, NOW + 1, NOW + 1)
    reported = Page("https://api.example/a", 304, (("Cache-Control", "max-age=60"),), b"")
    await one.freshen(stored.freshened(reported, NOW + 5, NOW + 6))
    updated = await one.get(b"key")
    assert updated is not None
    assert (updated.head.header("etag"), updated.page().body) == ('"b"', b"new")
    assert not updated.is_fresh(NOW + 6)
    await one.aclose()
    await other.aclose()


async def test_the_least_recently_used_responses_are_evicted(tmp_path: Path) -> None:
    """The size limit holds; a response larger than its share is not stored."""
    path = tmp_path / "c.db"
    cache = ResponseCache(path, max_size=1_000_000)
    for number in range(100):
        await cache.put(b"%d" % number, b"address", sized(number, 50_000), NOW, NOW)
    await cache.put(b"large", b"address", sized(0, 200_000), NOW, NOW)
    found = [number for number in range(100) if await cache.get(b"%d" % number)]
    assert await cache.get(b"large") is None
    assert found and found == list(range(found[0], 100))
    await cache.aclose()
    with sqlite3.connect(path) as db:
        (reported,) = db.execute("SELECT size FROM total").fetchone()
        (summed,) = db.execute("SELECT sum(size) FROM answers").fetchone()
        (bodies,) = db.execute("SELECT count(*) FROM bodies").fetchone()
    assert reported == summed <= 1_000_000
    assert bodies == len(found)


async def test_a_damaged_or_foreign_file_is_recreated(tmp_path: Path) -> None:
    """The run continues without the lost responses."""
    path = tmp_path / "c.db"
    path.write_bytes(os.urandom(10_000))
    cache = ResponseCache(path, max_size=1_000_000)
    assert await cache.get(b"key") is None
    await cache.put(b"key", b"address", page(), NOW, NOW)
    assert await cache.get(b"key") is not None
    await cache.aclose()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    later = ResponseCache(path, max_size=1_000_000)
    assert await later.get(b"key") is None
    await later.put(b"key", b"address", page(), NOW, NOW)
    assert await later.get(b"key") is not None
    await later.aclose()


async def test_an_unwritable_file_costs_only_the_cache(tmp_path: Path) -> None:
    """Lookups find nothing, and no error is raised."""
    (tmp_path / "file").write_text("")
    cache = ResponseCache(tmp_path / "file" / "c.db", max_size=1_000_000)
    await cache.put(b"key", b"address", page(), NOW, NOW)
    assert await cache.get(b"key") is None
    await cache.aclose()


async def test_several_fetchers_write_concurrently(tmp_path: Path) -> None:
    """All fetchers of a machine share the file."""
    caches = [ResponseCache(tmp_path / "c.db", max_size=10_000_000) for _ in range(4)]
    keys = [b"%d" % number for number in range(200)]
    await asyncio.gather(
        *(caches[at % 4].put(key, b"address", sized(at, 1_000), NOW, NOW) for at, key in enumerate(keys))
    )
    assert all([await caches[0].get(key) for key in keys])
    for cache in caches:
        await cache.aclose()
