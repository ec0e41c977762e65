"""The queue with the low-level calls that scrapeq's own workers need; not part of the public API."""

from __future__ import annotations

import asyncio

from scrapeq.queue import commands as c
from scrapeq.queue.async_queue import Queue
from scrapeq.queue.wait import WATCHDOG_S
from scrapeq.task import Group, Lease


class WorkerQueue(Queue):
    """A `Queue` for a worker loop, which waits outside the pop and settles in the background."""

    async def arrive(self) -> None:
        """
        Announce a worker: the designated waiter may have been killed, so let the store designate another.

        Raises StoreError.
        """
        await self._run(c.steer("unwatch"))

    async def leave(self) -> None:
        """Stop waiting for tasks, until the next `poll`. Waits at most half a second for the store."""
        await self._resign_and_wait()

    async def poll(self, n: int, wait_s: float = 0.0, *, suspects: int = 0, stay_s: float = 0.0) -> c.Popped:
        """
        As `pop_many`, and return all that the reply says: also how long to wait, and how many tasks are not dead.

        `stay_s`: seconds that the caller will spend in `wait` if it gets less than n tasks; it calls `leave` when it
        stops.
        """
        return await self._poll(n, wait_s, suspects=suspects, stay_s=stay_s)

    async def wait(self, popped: c.Popped, wait_s: float = WATCHDOG_S) -> None:
        """After a `poll` that got less than n tasks: sleep until an event, a push or `interrupt`."""
        await self._listener.wait(min(wait_s, self._waiter.wait_s(popped)))

    def interrupt(self) -> None:
        """Wake everything in this process that waits for tasks of this queue."""
        self._listener.interrupt()

    def settle_soon(self, entry: c.Entry) -> asyncio.Future[c.Settled]:
        """As `settle`, but in the background."""
        return self._settle_soon(entry)

    async def try_acquire(
        self, group: Group, *, weight: float = 1, credential: str = ""
    ) -> Lease | float | None:
        """
        As `acquire`, once: return the lease, or the seconds until another try is worth it.

        None = an event decides, such as the response to another request.
        """
        return await self._run(c.acquire(group, weight=weight, lease_s=self.lease_s, credential=credential))

    async def sweep_once(self) -> tuple[bool, float | None]:
        """As `sweep`, one bounded call: return whether more is due now, and the seconds to the next event."""
        return await self._run(c.sweep())
