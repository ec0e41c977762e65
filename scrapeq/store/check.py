"""Is the Redis at this URL fit for the queue: reachable, new enough, and never evicting."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from scrapeq.errors import StoreError
from scrapeq.queue.connect import explain_error, redact_url
from scrapeq.store.server_binary import MINIMUM, as_numbers

LOAD_TIMEOUT_S = 600.0
LOAD_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What answered: `engine` is valkey or redis; the rest is empty where CONFIG is not allowed."""

    engine: str
    version: str
    policy: str = ""
    append_only: str = ""


@contextmanager
def named_errors() -> Iterator[None]:
    """What the client raises comes out as StoreError, with its remedy."""
    try:
        yield
    except RedisError as error:
        raise explain_error(error) from error


async def check_server(client: Any, url: str = "", *, log: logging.Logger | None = None) -> ServerInfo:
    """
    Refuse a server that would lose tasks; wait for one that loads its data.

    Args:
        client: A `redis.asyncio` client (Redis, RedisCluster).
        url: How the user named it, for messages.

    Raises:
        StoreError: unreachable, refused, too old, or one that evicts keys; with the remedy.
    """
    log = log or logging.getLogger("scrapeq.store")
    name = redact_url(url) or "the store"
    info = await _info(client, name)
    valkey = str(info.get("valkey_version", ""))
    engine, version = ("valkey", valkey) if valkey else ("redis", str(info.get("redis_version", "0")))
    if as_numbers(version) < MINIMUM[engine]:
        raise StoreError(f"{name}: is {engine} {version}; Redis 7.0 or Valkey 7.2, or later, is needed")
    policy = await _config(client, "maxmemory-policy")
    append_only = await _config(client, "appendonly")
    if policy and policy != "noeviction":
        raise StoreError(
            f"{name}: maxmemory-policy is {policy}, so tasks would be evicted without a word; "
            "run `CONFIG SET maxmemory-policy noeviction` there and put it into its configuration"
        )
    if not policy:
        log.warning("%s: CONFIG is not allowed, so make sure that maxmemory-policy is noeviction", name)
    if append_only == "no":
        log.warning("%s: appendonly is no, so a restart of the server may lose tasks", name)
    return ServerInfo(engine, version, policy, append_only)


async def _info(client: Any, name: str) -> dict[str, Any]:
    """INFO server; of several nodes the one with the lowest version."""
    until = time.monotonic() + LOAD_TIMEOUT_S
    while True:
        try:
            found = await client.info("server")
        except BusyLoadingError:
            if time.monotonic() > until:
                raise StoreError(f"{name}: still loads its data after {LOAD_TIMEOUT_S:.0f} s") from None
            await asyncio.sleep(LOAD_POLL_S)
            continue
        except (RedisError, OSError) as error:
            cause = error.__cause__ or error  # redis-py wraps what a new connection is told
            if isinstance(cause, AuthenticationError | ResponseError):  # NOAUTH, WRONGPASS, NOPERM
                raise StoreError(
                    f"{name}: refuses us: {error}; check user and password in redis.url"
                ) from None
            reason = str(error).rstrip(".")
            raise StoreError(
                f"{name}: cannot be reached ({reason}): start it, or correct redis.url"
            ) from None
        nodes = [node for node in found.values() if isinstance(node, dict) and "redis_version" in node]
        if nodes:
            return min(nodes, key=lambda node: as_numbers(str(node["redis_version"])))
        return dict(found)


async def _config(client: Any, key: str) -> str:
    """One setting; empty where the server does not allow the question (managed services)."""
    try:
        found = await client.config_get(key)
    except (ResponseError, NoPermissionError):
        return ""
    except (RedisError, OSError) as error:
        raise StoreError(f"the store went away while it was checked: {error}") from None
    nodes = [node for node in found.values() if isinstance(node, dict)]
    for node in nodes or [found]:
        if key != "maxmemory-policy" or node.get(key) != "noeviction":
            return str(node.get(key, ""))
    return str((nodes or [found])[0].get(key, ""))
