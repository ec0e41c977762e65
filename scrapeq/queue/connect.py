"""Connecting to Redis or Valkey: clients from URLs, and what their errors mean."""

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

from scrapeq.errors import StoreDamaged, StoreError, UsageError

CONNECT_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 30.0  # longer than any blocking call that the queue makes
SCHEMES = ("redis", "rediss", "unix")

# Errors worth a retry: the server is starting, failing over or busy with a script, or the connection broke.
TRANSIENT = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OSError)
# Errors of a server that did not execute the command.
NOT_EXECUTED = (BusyLoadingError, ReadOnlyError, TryAgainError, MasterDownError)
_SECRET_PARAMETER = re.compile(r"([?&][^=&]*password=)[^&]*", re.IGNORECASE)
__all__ = [
    "TRANSIENT",
    "NoScriptError",
    "async_client",
    "check_client",
    "explain_error",
    "has_function_already",
    "has_no_function",
    "is_transient",
    "is_wrong_type",
    "lacks_function",
    "ran_nothing",
    "redact_url",
    "sync_client",
]


def redact_url(url: str) -> str:
    """Return the URL with its password masked, for display. Everything before the last "@" counts as credentials."""
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
        raise UsageError(f"redis.url: {scheme}:// is not supported yet; use redis:// with one server")
    if scheme not in SCHEMES or "://" not in url:
        raise UsageError(
            f"redis.url: {redact_url(url)!r} is not the URL of a store; use redis://, rediss:// or unix://"
        )


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
    }
    if "protocol" not in parse_qs(urlsplit(url).query):
        options["protocol"] = 2
    options["retry"] = Retry(NoBackoff(), 0)  # the queue's drivers decide which commands may be repeated
    return options


def _packed(args: tuple[Any, ...]) -> list[bytes]:
    """Pack a command with the C code of hiredis; by default the asyncio client packs in Python."""
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
    """Return an asyncio client for the URL of a store. Raises UsageError if the URL is not one."""
    _check(url)
    options = _options(url)
    options["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 0)
    pool: Any = redis.asyncio.ConnectionPool.from_url(url, **options)
    pool.connection_class = _CONNECTIONS[url.partition("://")[0]]
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)
    return client


def sync_client(url: str) -> redis.Redis:
    """Return a blocking client for the URL of a store. Raises UsageError if the URL is not one."""
    _check(url)
    client: redis.Redis = redis.Redis.from_url(url, **_options(url))
    return client


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed a moment later."""
    if isinstance(error, AuthenticationError):
        return False
    return isinstance(error, TRANSIENT) or ran_nothing(error)


def ran_nothing(error: BaseException) -> bool:
    """Return whether the server certainly did not execute the call, so that any call may be repeated."""
    if isinstance(error, NOT_EXECUTED):
        return True
    text = str(error)
    if "max number of clients" in text:
        return True
    if isinstance(error, ResponseError):
        return text.startswith(("BUSY", "LOADING", "TRYAGAIN", "MASTERDOWN"))
    return isinstance(error, (ConnectionError, OSError)) and ("refused" in text or "No such file" in text)


def has_no_function(error: BaseException) -> bool:
    """Return whether the server does not know a function that was called; its library must be loaded."""
    return isinstance(error, ResponseError) and "Function not found" in str(error)


def has_function_already(error: BaseException) -> bool:
    """Return whether a library was not loaded because the server has it."""
    return isinstance(error, ResponseError) and "already exists" in str(error)


def lacks_function(error: BaseException) -> bool:
    """Return whether a function did not run because the server does not know it, or does not let this user call any."""
    if has_no_function(error):
        return True
    text = str(error).lower()
    # An ACL has no permissions for the command; some providers, and servers before 7.0, do not know it.
    is_refused = "permissions to run" in text or "unknown command" in text or "unknown subcommand" in text
    return isinstance(error, ResponseError) and is_refused and ("fcall" in text or "function" in text)


def is_wrong_type(error: BaseException) -> bool:
    """Return whether a key had another type than the command needs."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def check_client(client: object, *, blocking: bool) -> None:
    """
    Check that a Redis client is of the blocking or the asyncio kind. Raises UsageError.

    The wrong kind would fail only at its first reply, with an error that does not name the cause.
    """
    expected = "redis.Redis.from_url(...)" if blocking else "redis.asyncio.Redis.from_url(...)"
    call = getattr(client, "execute_command", None)
    if call is None:
        raise UsageError(f"redis: expected a client such as {expected}, got {type(client).__name__}")
    if blocking and inspect.iscoroutinefunction(call):
        raise UsageError(
            f"redis: expected a blocking client such as {expected}, got an asyncio one; use it with Queue"
        )
    if not blocking and isinstance(client, (redis.Redis, redis.RedisCluster)):
        raise UsageError(
            f"redis: expected an asyncio client such as {expected}, got a blocking one; use it with DPQ"
        )


def explain_error(error: BaseException) -> StoreError:
    """Return the StoreError for an error of the store or of the connection, with its remedy."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "OOM" in text[:40]:
        return StoreError(
            "the store is out of memory; raise its maxmemory, or let workers empty the queue first"
        )
    if text.startswith("MISCONF"):
        return StoreError(
            "the store cannot write to its disk (MISCONF); free some space there, then run again"
        )
    if isinstance(error, AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text or "NOPERM" in text:
        return StoreError(f"the store rejects these credentials: {text}")
    if isinstance(error, ReadOnlyError):
        return StoreError("the store is a read-only replica; point redis.url at the primary")
    if isinstance(error, BusyLoadingError):
        return StoreError("the store is still loading its data; try again in a moment")
    if isinstance(error, (ConnectionError, TimeoutError, OSError)):
        return StoreError(f"the store cannot be reached: {text}")
    if is_wrong_type(error):
        return StoreDamaged(f"a key of the queue has another type than the queue gave it: {text}")
    if isinstance(error, RedisError):
        return StoreError(f"the store replied with an error: {text}")
    return StoreError(text)
