"""
Look up host names: one thread for each name that is being looked up, so that a slow name delays no other.

The threads call `getaddrinfo`, so a name means what it means to every other program of the machine: /etc/hosts, search
domains, nsswitch and VPNs apply. A pool of threads, as asyncio has one, would be full of slow names soon.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from scrapeq.errors import ScrapeqError

Address = tuple[int, int, str]
"""Family, protocol and IP address."""

KEPT_S = 10.0  # how long a result is used
FAILURE_KEPT_S = 3.0
LOOKUP_MAX_S = 90.0  # a lookup that takes longer has failed
LOOKUPS_MAX = 256  # names that are looked up at once
_NAMES_KEPT = 4096
_DELAY_MIN_S, _DELAY_MAX_S = 0.5, 5.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LOCAL_NAME = re.compile(r"(?:.*\.)?localhost\.?", re.ASCII | re.IGNORECASE)  # RFC 6761, 6.3


class Postponed(ScrapeqError):
    """
    The request cannot be sent now, for a reason that is not its own; repeat it after `delay_s` seconds.

    The lookup of a name goes on, and its result will be used; or this machine lacks file descriptors. Nothing was sent.
    """

    def __init__(self, message: str, delay_s: float) -> None:
        self.delay_s = delay_s
        super().__init__(message)


class NameFailed(OSError):
    """The lookup failed. `wait_s`: until then another attempt would get the same answer."""

    def __init__(self, error: OSError, wait_s: float) -> None:
        self.wait_s = max(0.0, wait_s)
        super().__init__(error.errno, error.strerror)


@dataclass(slots=True)
class _Lookup:
    """One lookup, done or not; times are monotonic seconds."""

    future: asyncio.Future[list[Address]]
    started_s: float
    kept_until_s: float = 0.0


class Names:
    """
    Looks up names for one event loop. Requests for one name share a lookup, and its result for a short time.

    Args:
        patience_s: How long a request waits for a lookup before Postponed; None = until its deadline.
    """

    def __init__(self, patience_s: float | None = None) -> None:
        self._patience_s = patience_s
        self._lookups: dict[str, _Lookup] = {}
        self._free = asyncio.Semaphore(LOOKUPS_MAX)

    async def addresses(self, host: str) -> list[Address]:
        """
        Return the addresses of a name, at least one.

        Raises:
            Postponed: the lookup takes longer than `patience_s`.
            NameFailed: the name has no address, or the lookup failed.
        """
        lookup = self._lookups.get(host)
        if lookup is None or (lookup.future.done() and lookup.kept_until_s <= time.monotonic()):
            lookup = self._start(host)
        if not lookup.future.done():
            await self._wait(host, lookup)
        error = lookup.future.exception()
        if isinstance(error, OSError):  # each request gets an exception object of its own
            raise NameFailed(error, lookup.kept_until_s - time.monotonic())
        return lookup.future.result()

    async def _wait(self, host: str, lookup: _Lookup) -> None:
        waited_s = time.monotonic() - lookup.started_s
        if self._patience_s is None:
            await asyncio.wait([lookup.future])
        elif waited_s < self._patience_s:
            await asyncio.wait([lookup.future], timeout=self._patience_s - waited_s)
        if not lookup.future.done():
            waited_s = time.monotonic() - lookup.started_s
            delay_s = min(max(waited_s, _DELAY_MIN_S), _DELAY_MAX_S)
            raise Postponed(f"the name {host} is not resolved yet", delay_s)

    def _start(self, host: str) -> _Lookup:
        now_s = time.monotonic()
        if len(self._lookups) >= _NAMES_KEPT:
            self._lookups = {name: one for name, one in self._lookups.items() if one.kept_until_s > now_s}
        task = asyncio.ensure_future(self._look_up(host))
        self._lookups[host] = lookup = _Lookup(task, now_s, now_s + LOOKUP_MAX_S + KEPT_S)

        def done(task: asyncio.Future[list[Address]]) -> None:
            error = (
                None if task.cancelled() else task.exception()
            )  # retrieved, even if no request waits any more
            took_s = time.monotonic() - lookup.started_s
            kept_s = max(
                KEPT_S if error is None else FAILURE_KEPT_S, took_s
            )  # a slow one for those that return later
            lookup.kept_until_s = time.monotonic() + (0.0 if is_exhaustion(error) else kept_s)

        task.add_done_callback(done)
        return lookup

    async def _look_up(self, host: str) -> list[Address]:
        """Look a name up. Raises OSError."""
        await self._free.acquire()
        answer = _in_thread(host, self._free.release)
        await asyncio.wait([answer], timeout=LOOKUP_MAX_S)
        if not answer.done():
            answer.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise OSError(socket.EAI_AGAIN, f"the name was not resolved within {LOOKUP_MAX_S:.0f} s")
        try:
            return answer.result()
        except OSError:
            if _LOCAL_NAME.fullmatch(host) is None:
                raise
            loopback = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
            return [(family, socket.IPPROTO_TCP, address) for family, address in loopback]

    def close(self) -> None:
        """Give up all lookups; their threads end with the answer of the system."""
        for lookup in self._lookups.values():
            lookup.future.cancel()
        self._lookups.clear()


def _in_thread(host: str, on_end: Callable[[], object]) -> asyncio.Future[list[Address]]:
    """Call `getaddrinfo` in a thread that does not keep the process alive; call `on_end` in the loop at its end."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Address]] = loop.create_future()

    def settle(addresses: list[Address], error: OSError | None) -> None:
        on_end()
        if answer.cancelled():
            return
        if error is None:
            answer.set_result(addresses)
        else:
            answer.set_exception(error)

    def work() -> None:
        addresses: list[Address] = []
        failure: OSError | None = None
        try:
            flags = socket.AI_ADDRCONFIG
            for family, _, protocol, _, address in socket.getaddrinfo(
                host, None, type=socket.SOCK_STREAM, flags=flags
            ):
                addresses.append((family, protocol, str(address[0])))
            if not addresses:
                failure = OSError(socket.EAI_NONAME, "the name has no address")
        except OSError as error:
            failure = error
        except UnicodeError:  # a label that is empty or too long
            failure = OSError(socket.EAI_NONAME, "not a valid host name")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, addresses, failure)

    try:
        threading.Thread(target=work, name=f"lookup {host}", daemon=True).start()
    except RuntimeError:
        settle([], OSError(errno.ENOMEM, "cannot start another thread"))
    return answer


def is_exhaustion(error: BaseException | None) -> bool:
    """Return whether an error says that this machine lacks file descriptors or buffers, whatever was requested."""
    return isinstance(error, OSError) and error.errno in _EXHAUSTED
