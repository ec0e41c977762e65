"""Check that a Redis server can hold the queue: it is reachable, new enough, and never evicts keys."""

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
from scrapeq.store.server_binary import MINIMUM, REQUIREMENT, version_tuple

LOAD_TIMEOUT_S = 600.0
LOAD_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server: its engine (valkey or redis), version and settings; settings are empty where CONFIG is denied."""

    engine: str
    version: str
    policy: str = ""
    append_only: str = ""


@contextmanager
def named_errors() -> Iterator[None]:
    """Turn the Redis client's errors into StoreError with a remedy."""
    try:
        yield
    except RedisError as error:
        raise explain_error(error) from error


async def check_server(client: Any, url: str = "", *, log: logging.Logger | None = None) -> ServerInfo:
    """
    Refuse a server that would lose tasks; wait for one that is loading its data.

    Args:
        client: A `redis.asyncio` client (Redis or RedisCluster).
        url: The URL as the user wrote it, for messages.
        log: Where warnings go; None = the store's logger.

    Returns:
        What the server is.

    Raises:
        StoreError: the server cannot be reached, refuses the login, is too old, or evicts keys.
    """
    log = log or logging.getLogger("scrapeq.store")
    name = redact_url(url) or "the store"
    info = await _info(client, name)
    valkey = str(info.get("valkey_version", ""))
    engine, version = ("valkey", valkey) if valkey else ("redis", str(info.get("redis_version", "0")))
    if version_tuple(version) < MINIMUM[engine]:
        raise StoreError(f"{name}: {engine} {version} is too old. scrapeq needs {REQUIREMENT}")
    policy = await _config(client, "maxmemory-policy")
    append_only = await _config(client, "appendonly")
    if policy and policy != "noeviction":
        raise StoreError(
            f"{name}: maxmemory-policy is {policy}, so the server would silently evict tasks. "
            "Run `CONFIG SET maxmemory-policy noeviction` there and add the setting to its configuration file"
        )
    if not policy:
        log.warning(
            "%s: cannot read maxmemory-policy, because the server denies CONFIG. Make sure that it is noeviction",
            name,
        )
    if append_only == "no":
        snapshots = await _config(client, "save")
        lost = "loses what was written since the last snapshot" if snapshots else "loses the whole queue"
        log.warning("%s: appendonly is off, so a restart of the server %s. Set appendonly to yes", name, lost)
    return ServerInfo(engine, version, policy, append_only)


async def _info(client: Any, name: str) -> dict[str, Any]:
    """Return INFO server; in a cluster, that of the node with the lowest version."""
    deadline_s = time.monotonic() + LOAD_TIMEOUT_S
    while True:
        try:
            info = await client.info("server")
        except BusyLoadingError:
            if time.monotonic() > deadline_s:
                raise StoreError(
                    f"{name}: the server is still loading its data after {LOAD_TIMEOUT_S:.0f} s. "
                    "Wait until it has finished, then run again"
                ) from None
            await asyncio.sleep(LOAD_POLL_S)
            continue
        except (RedisError, OSError) as error:
            raise _unreachable(name, error) from None
        nodes = [node for node in info.values() if isinstance(node, dict) and "redis_version" in node]
        if nodes:
            return min(nodes, key=lambda node: version_tuple(str(node["redis_version"])))
        return dict(info)


def _unreachable(name: str, error: Exception) -> StoreError:
    cause = error.__cause__ or error  # redis-py wraps the reply to a new connection's first command
    if isinstance(cause, AuthenticationError | ResponseError):  # NOAUTH, WRONGPASS, NOPERM
        return StoreError(f"{name}: the server refuses access: {error}. Check user and password in redis.url")
    reason = str(error).rstrip(".")
    return StoreError(f"{name}: cannot be reached ({reason}). Start the server, or correct redis.url")


async def _config(client: Any, key: str) -> str:
    """Return one setting, or an empty string where the server denies CONFIG (as managed services do)."""
    try:
        config = await client.config_get(key)
    except (ResponseError, NoPermissionError):
        return ""
    except (RedisError, OSError) as error:
        raise StoreError(
            f"the connection to the store broke during its check: {error}. Run the command again"
        ) from None
    nodes = [node for node in config.values() if isinstance(node, dict)]
    for node in nodes or [config]:
        if key != "maxmemory-policy" or node.get(key) != "noeviction":
            return str(node.get(key, ""))
    return str((nodes or [config])[0].get(key, ""))
