"""Resources that are asked for again and again: whose time has come is pushed again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import ScrapeqError
from scrapeq.plan import Schedule
from scrapeq.schedule.due_times import Due, DueTimes
from scrapeq.schedule.timetable import next_due_s, spelled

Push = Callable[[str, int], Awaitable[None]]
"""(resource, occurrence): pushes its first pages."""


class Recurring:
    """
    The schedules of a plan.

    Args:
        schedules: By resource.
        dues: Where it is kept when they are due.
        push: Pushes a resource's first pages in an occurrence; doing it twice changes nothing.
        clock: Its `now_s` is the time of the schedules.
    """

    def __init__(
        self,
        schedules: Mapping[str, Schedule],
        due_times: DueTimes,
        push: Push,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._schedules = schedules
        self._due_times = due_times
        self._push = push
        self._clock = clock or SystemClock()

    async def begin(self, began_s: float | None) -> set[str]:
        """
        Those of which it is not known when they are due are due one step after `began_s`; None = after now.

        Returns:
            Those that wait for a time to come: what begins now leaves them out.
        """
        now_s, known = self._clock.now_s(), await self._due_times.all()
        waiting = set()
        for name, schedule in self._schedules.items():
            due = known.get(name)
            if due is not None and (due.due_s > now_s or began_s is not None):
                waiting.add(name)
                continue
            due_s = next_due_s(schedule, now_s, began_s)
            await self._due_times.keep(name, Due(due_s, spelled(schedule)))
        return waiting

    async def turn(self) -> float | None:
        """
        Push all that is due; seconds until the next one is, None when there is none.

        Raises what `push` raised; the occurrence then goes on at the next turn, and the others have had theirs.
        """
        known = await self._due_times.all()
        failed: list[ScrapeqError] = []
        for name, schedule in self._schedules.items():
            try:
                known[name] = await self._one(name, schedule, known.get(name))
            except ScrapeqError as error:
                failed.append(error)
        if failed:
            raise failed[0]
        waits = [known[name].due_s - self._clock.now_s() for name in self._schedules]
        return max(0.0, min(waits)) if waits else None

    async def _one(self, name: str, schedule: Schedule, due: Due | None) -> Due:
        now_s, spelling = self._clock.now_s(), spelled(schedule)
        if due is None:  # nobody has asked for it yet
            due = Due(now_s, spelling)
        elif (
            due.schedule != spelling
        ):  # the file says something else now: what was due later may be due sooner
            due = replace(due, due_s=min(due.due_s, next_due_s(schedule, now_s)), schedule=spelling)
            await self._due_times.keep(name, due)
        if due.due_s > now_s:
            return due
        if not due.occurrence:
            due = replace(due, occurrence=await self._due_times.next_occurrence())
            await self._due_times.keep(name, due)
        await self._push(name, due.occurrence)
        done = Due(next_due_s(schedule, self._clock.now_s(), due.due_s), spelling)
        await self._due_times.keep(name, done)
        return done
