"""Redis at its edge: clients from URLs, and what its errors mean."""

from __future__ import annotations

import inspect
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hiredis
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

from scrapeq.errors import StoreError, UsageError

CONNECT_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 30.0  # longer than any blocking wait that we ask for
SCHEMES = ("redis", "rediss", "unix")

# Worth another try: the server is starting, failing over, or busy with a script; or the connection broke.
TRANSIENT = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OSError)
# Answers of a server that ran nothing.
REFUSED = (BusyLoadingError, ReadOnlyError, TryAgainError, MasterDownError)
_SECRET_PARAMETER = re.compile(r"([?&][^=&]*password=)[^&]*", re.IGNORECASE)
__all__ = [
    "TRANSIENT",
    "NoScriptError",
    "async_client",
    "check_client",
    "explain_error",
    "is_transient",
    "ran_nothing",
    "redact_url",
    "sync_client",
]


def redact_url(url: str) -> str:
    """The URL without its password, to show. Whatever stands before the last "@" is taken for credentials."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    if "@" in rest and not rest.startswith("/"):  # unix:///a@b is a path
        userinfo, _, rest = rest.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        rest = f"{user}:***@{rest}" if colon else f"***@{rest}"
    return _SECRET_PARAMETER.sub(r"\1***", f"{scheme}://{rest}")


def _check(url: str) -> None:
    scheme = url.partition("://")[0]
    if scheme in ("redis+cluster", "redis+sentinel"):
        raise UsageError(
            f"redis.url: {scheme}:// is not built yet in this version; use redis:// to one server"
        )
    if scheme not in SCHEMES or "://" not in url:
        raise UsageError(
            f"redis.url: {redact_url(url)!r} is no URL of a store; one of redis:// rediss:// unix://"
        )


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
    }
    if "protocol" not in parse_qs(urlsplit(url).query):
        options["protocol"] = 2
    # our own drivers decide what may be sent again
    options["retry"] = Retry(NoBackoff(), 0)
    return options


def _packed(args: tuple[Any, ...]) -> list[bytes]:
    """A command in one piece, by hiredis' C code: the asyncio client of its own accord packs in Python."""
    return [hiredis.pack_command((*str(args[0]).encode().split(), *args[1:]))]


class _Connection(redis.asyncio.Connection):
    def pack_command(self, *args: Any) -> list[bytes]:
        return _packed(args)


class _SSLConnection(redis.asyncio.SSLConnection):
    def pack_command(self, *args: Any) -> list[bytes]:
        return _packed(args)


class _UnixConnection(redis.asyncio.UnixDomainSocketConnection):
    def pack_command(self, *args: Any) -> list[bytes]:
        return _packed(args)


_CONNECTIONS = {"redis": _Connection, "rediss": _SSLConnection, "unix": _UnixConnection}


def async_client(url: str) -> redis.asyncio.Redis:
    """An asyncio client for a store URL. Raises UsageError for a URL that names no store."""
    _check(url)
    options = _options(url)
    options["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 0)
    pool: Any = redis.asyncio.ConnectionPool.from_url(url, **options)
    pool.connection_class = _CONNECTIONS[url.partition("://")[0]]
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)
    return client


def sync_client(url: str) -> redis.Redis:
    """A blocking client for a store URL. Raises UsageError for a URL that names no store."""
    _check(url)
    client: redis.Redis = redis.Redis.from_url(url, **_options(url))
    return client


def is_transient(error: BaseException) -> bool:
    """May the same call go through a moment later?"""
    if isinstance(error, AuthenticationError):
        return False
    return isinstance(error, TRANSIENT) or ran_nothing(error)


def ran_nothing(error: BaseException) -> bool:
    """Is it certain that the call was not carried out, so that any call may be sent again?"""
    if isinstance(error, REFUSED):
        return True
    text = str(error)
    if "max number of clients" in text:
        return True
    if isinstance(error, ResponseError):
        return text.startswith(("BUSY", "LOADING", "TRYAGAIN", "MASTERDOWN"))
    return isinstance(error, (ConnectionError, OSError)) and ("refused" in text or "No such file" in text)


def check_client(client: object, *, blocking: bool) -> None:
    """
    Looks that a client is of the kind that is wanted; the other kind would fail at its first answer, with a riddle.

    Raises UsageError.
    """
    wanted = "redis.Redis.from_url(...)" if blocking else "redis.asyncio.Redis.from_url(...)"
    call = getattr(client, "execute_command", None)
    if call is None:
        raise UsageError(f"redis: a client is wanted, such as {wanted}, not {type(client).__name__}")
    if blocking and inspect.iscoroutinefunction(call):
        raise UsageError(f"redis: this client is for asyncio; DPQ takes {wanted}")
    if not blocking and isinstance(client, (redis.Redis, redis.RedisCluster)):
        raise UsageError(
            f"redis: this client blocks; Queue and Fetcher take {wanted}, and DPQ takes this one"
        )


def explain_error(error: BaseException) -> StoreError:
    """One named error, with its remedy, for whatever the store or the way to it raised."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "OOM" in text[:40]:
        return StoreError(
            "the store is out of memory (maxmemory); raise it, or let the queue be worked off first"
        )
    if text.startswith("MISCONF"):
        return StoreError("the store cannot write to its disk (MISCONF); free space there, then run again")
    if isinstance(error, AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text or "NOPERM" in text:
        return StoreError(f"the store refuses these credentials: {text}")
    if isinstance(error, ReadOnlyError):
        return StoreError("the store is a read-only replica; point redis.url at the primary")
    if isinstance(error, BusyLoadingError):
        return StoreError("the store is still loading its data; try again when it has")
    if isinstance(error, (ConnectionError, TimeoutError, OSError)):
        return StoreError(f"the store cannot be reached: {text}")
    if isinstance(error, RedisError):
        return StoreError(f"the store answered with an error: {text}")
    return StoreError(text)
