"""Recurring resources: push the first pages of each resource whose schedule is due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from scrapeq.clock import Clock, SystemClock
from scrapeq.errors import ScrapeqError
from scrapeq.plan import Schedule
from scrapeq.schedule.due_times import DueTime, DueTimes
from scrapeq.schedule.timetable import next_due_s, schedule_text

Push = Callable[[str, int], Awaitable[None]]
"""(resource, number of the scheduled run): pushes the resource's first pages; repeating it changes nothing."""


class Recurring:
    """
    The schedules of a plan.

    Args:
        schedules: The schedules by resource.
        due_times: Stores when they are due.
        push: Pushes a resource's first pages.
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

    async def start(self, started_s: float | None) -> set[str]:
        """
        Store the first due time of each schedule that has none yet: one step after the start of the run.

        Args:
            started_s: When the run started, Unix seconds, for a run that is resumed; None = a new run, which starts
                now. A new run also replaces due times in the past, since it fetches those resources itself.

        Returns:
            The resources that wait for a stored due time; a new run does not seed them.
        """
        now_s, known = self._clock.now_s(), await self._due_times.all()
        waiting = set()
        for name, schedule in self._schedules.items():
            due = known.get(name)
            if due is not None and (due.due_s > now_s or started_s is not None):
                waiting.add(name)
                continue
            due_s = next_due_s(schedule, now_s, started_s)
            await self._due_times.set(name, DueTime(due_s, schedule_text(schedule)))
        return waiting

    async def push_due(self) -> float | None:
        """
        Push every resource that is due.

        Returns:
            Seconds until the next one is due; None without schedules.

        Raises:
            ScrapeqError: as `push` raised it. The other resources were pushed; this one continues with the next call.
        """
        known = await self._due_times.all()
        errors: list[ScrapeqError] = []
        for name, schedule in self._schedules.items():
            try:
                known[name] = await self._push_if_due(name, schedule, known.get(name))
            except ScrapeqError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        waits_s = [known[name].due_s - self._clock.now_s() for name in self._schedules]
        return max(0.0, min(waits_s)) if waits_s else None

    async def _push_if_due(self, name: str, schedule: Schedule, due: DueTime | None) -> DueTime:
        now_s, text = self._clock.now_s(), schedule_text(schedule)
        if due is None:  # never pushed before: due now
            due = DueTime(now_s, text)
        elif due.schedule != text:  # the file has changed: a due time may move forward, never back
            due = replace(due, due_s=min(due.due_s, next_due_s(schedule, now_s)), schedule=text)
            await self._due_times.set(name, due)
        if due.due_s > now_s:
            return due
        if not due.occurrence:
            due = replace(due, occurrence=await self._due_times.next_occurrence())
            await self._due_times.set(name, due)
        await self._push(name, due.occurrence)
        next_due = DueTime(next_due_s(schedule, self._clock.now_s(), due.due_s), text)
        await self._due_times.set(name, next_due)
        return next_due
