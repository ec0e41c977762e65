"""The queue's scripts on a dedicated store, with a clock that the simulation controls."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from benchmarks.queue_figures.engine import Server, find_engines
from benchmarks.quota_sim.engines import LEASE_S, START_S, US
from scrapeq.limit import Limit, LimitState
from scrapeq.queue import commands as c
from scrapeq.queue.library import library
from scrapeq.queue.wait import WATCHDOG_S
from scrapeq.task import NewTask

T = TypeVar("T")


class Store:
    """A server with the scripts loaded, for many runs."""

    def __init__(self, which: str) -> None:
        self._server = Server(find_engines(which)[0])

    def __enter__(self) -> Self:
        self._server.__enter__()
        self.connection: Any = self._server.raw.connection_pool.get_connection()
        self.library = library(test_clock=True)
        self._server.raw.function_load(self.library.text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.disconnect()
        self._server.__exit__(kind, error, trace)

    def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands in one round trip; return their replies."""
        connection = self.connection
        connection.send_packed_command(connection.pack_commands(commands))
        return [connection.read_response() for _ in commands]

    def empty(self) -> None:
        """Delete everything."""
        self.call(["FLUSHALL"])


class ScriptEngine:
    """
    One queue on a store.

    The marker is read with each call, which saves a round trip, and kept for `take_marker`.
    """

    def __init__(self, store: Store, lease_s: float = LEASE_S) -> None:
        self._store, self._lease_s = store, lease_s
        self._key = "scrapeq:{sim}:c"
        self._wake, self._clock = "scrapeq:{sim}:wake", "scrapeq:{sim}:testclock"
        self._marked = False
        store.empty()

    def _run(self, now_s: float, command: c.Command[T]) -> T:
        us = START_S * US + round(now_s * US)
        _, reply, marker = self._store.call(
            ("SET", self._clock, us),
            ("FCALL", self._store.library.function(command.script), 1, self._key, *command.args),
            ("ZPOPMIN", self._wake),
        )
        self._marked = self._marked or bool(marker)
        return command.parse(reply)

    def define(self, limits: dict[str, Limit]) -> None:
        self._run(0.0, c.define(limits))

    def push(self, now_s: float, tasks: Sequence[NewTask]) -> None:
        for command in c.push(tasks, max_tasks=0, dedup="only_new"):
            self._run(now_s, command)

    def pop(self, now_s: float, n: int, suspects: int, previous_poll_at_us: int) -> c.Popped:
        command = c.pop(
            n,
            lease_s=self._lease_s,
            suspects=suspects,
            stay_s=WATCHDOG_S,
            stays_with_some=True,
            previous_poll_at_us=previous_poll_at_us,
        )
        while True:
            popped = self._run(now_s, command)
            if not popped.is_unfinished:
                return popped

    def settle(self, now_s: float, entries: Sequence[c.Entry]) -> None:
        self._run(now_s, c.settle(entries))

    def take_marker(self) -> bool:
        marked, self._marked = self._marked, False
        return marked

    def has_better(self, now_s: float, rank: float) -> bool:
        """Return False: this would take a pop in a transaction that is undone, so only the Python engine checks it."""
        return False

    def states(self, now_s: float, names: Sequence[str]) -> list[LimitState]:
        return self._run(now_s, c.limit_states(names))

    def close(self) -> None:
        self._store.empty()
