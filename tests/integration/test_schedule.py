"""When schedules are due, and that missed due times are made up for once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import redis.asyncio

from scrapeq.errors import StoreError, UsageError
from scrapeq.plan import Schedule
from scrapeq.resource.cursor_store import RedisCursorStore
from scrapeq.schedule.due_times import DueTime, DueTimes
from scrapeq.schedule.recurring import Recurring
from scrapeq.schedule.timetable import next_due_s, schedule_text
from scrapeq.testing.clock import FakeClock

NOON_S = datetime(2024, 5, 1, 12, 0, tzinfo=UTC).timestamp()
HOURLY = Schedule(every_s=3600.0)


def at(text: str) -> float:
    """Return the Unix seconds of an ISO time."""
    return datetime.fromisoformat(text).timestamp()


def test_steps_keep_their_rhythm() -> None:
    """After a pause of three and a half hours, the next hourly due time is half an hour away."""
    assert next_due_s(HOURLY, NOON_S) == NOON_S + 3600
    assert next_due_s(HOURLY, NOON_S, NOON_S) == NOON_S + 3600
    assert next_due_s(HOURLY, NOON_S + 3.5 * 3600, NOON_S) == NOON_S + 4 * 3600
    assert next_due_s(HOURLY, NOON_S + 3600, NOON_S) == NOON_S + 7200
    assert next_due_s(HOURLY, NOON_S, NOON_S + 60) == NOON_S + 3660, "the clock was set back"


@pytest.mark.parametrize(
    ("cron", "zone", "after", "due"),
    [
        ("30 6 * * *", "UTC", "2024-05-01T12:00:00Z", "2024-05-02T06:30:00Z"),
        ("30 6 * * *", "Europe/Berlin", "2024-05-01T12:00:00Z", "2024-05-02T04:30:00Z"),
        ("*/15 * * * *", "UTC", "2024-05-01T12:00:00Z", "2024-05-01T12:15:00Z"),
        ("0 0 1 * *", "America/New_York", "2024-03-05T00:00:00Z", "2024-04-01T04:00:00Z"),
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2024-03-30T12:00:00Z",
            "2024-03-31T01:00:00Z",
        ),  # 02:30 does not exist on that day
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2024-10-26T12:00:00Z",
            "2024-10-27T00:30:00Z",
        ),  # 02:30 occurs twice on that day
    ],
)
def test_cron_lines_follow_their_time_zone(cron: str, zone: str, after: str, due: str) -> None:
    """Due times are correct even on days when daylight saving time starts or ends."""
    assert next_due_s(Schedule(cron=cron, timezone=zone), at(after)) == at(due)


class Pushes:
    """Records pushes; the resource `broken` fails."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, int]] = []
        self.broken = ""

    async def __call__(self, name: str, occurrence: int) -> None:
        """Record a push, or fail."""
        if name == self.broken:
            raise UsageError("seeds.csv:7: 1 values for 2 columns")
        self.pushed.append((name, occurrence))

    def take(self) -> list[tuple[str, int]]:
        """Return the pushes since the last call."""
        pushed, self.pushed = self.pushed, []
        return pushed


def recurring(client: Any, pushes: Pushes, clock: FakeClock, **schedules: Schedule) -> Recurring:
    """Return recurring schedules over a store."""
    return Recurring(schedules, DueTimes(client, "scrapeq:{q}:"), pushes, clock=clock)


async def test_missed_due_times_are_made_up_for_once(astore: redis.asyncio.Redis) -> None:
    """Due times outlive the process; each scheduled run has a higher number."""
    clock, pushes = FakeClock(NOON_S), Pushes()
    assert await recurring(astore, pushes, clock, a=HOURLY).push_due() == 3600
    assert pushes.take() == [("a", 1)], "never pushed before"
    assert await recurring(astore, pushes, clock, a=HOURLY).push_due() == 3600
    clock.step(3.5 * 3600)
    assert await recurring(astore, pushes, clock, a=HOURLY).push_due() == 1800
    assert pushes.take() == [("a", 2)]


async def test_an_interrupted_push_continues_under_its_number(astore: redis.asyncio.Redis) -> None:
    """The other schedules do not wait for it."""
    clock, pushes = FakeClock(NOON_S), Pushes()
    pushes.broken = "a"
    both = recurring(astore, pushes, clock, a=HOURLY, b=HOURLY)
    with pytest.raises(UsageError, match=r"seeds\.csv:7"):
        await both.push_due()
    assert pushes.take() == [("b", 2)]
    pushes.broken = ""
    await recurring(astore, pushes, clock, a=HOURLY, b=HOURLY).push_due()
    assert pushes.take() == [("a", 1)]


async def test_a_changed_schedule_applies_at_once(astore: redis.asyncio.Redis) -> None:
    """A shorter interval makes the due time earlier; a longer one does not change it."""
    clock, pushes = FakeClock(NOON_S), Pushes()
    await recurring(astore, pushes, clock, a=HOURLY).push_due()
    assert await recurring(astore, pushes, clock, a=Schedule(every_s=60.0)).push_due() == 60
    assert await recurring(astore, pushes, clock, a=Schedule(every_s=86400.0)).push_due() == 60
    assert len(pushes.take()) == 1


async def test_a_new_run_leaves_out_what_is_due_later(astore: redis.asyncio.Redis) -> None:
    """A new run replaces missed due times; a resumed run leaves all due times as they are."""
    clock, pushes = FakeClock(NOON_S), Pushes()
    due_times = DueTimes(astore, "scrapeq:{q}:")
    await due_times.set("later", DueTime(NOON_S + 60, schedule_text(HOURLY)))
    await due_times.set("missed", DueTime(NOON_S - 60, schedule_text(HOURLY)))
    schedules = recurring(astore, pushes, clock, later=HOURLY, missed=HOURLY, new=HOURLY)
    assert await schedules.start(None) == {"later"}
    known = {name: due.due_s - NOON_S for name, due in (await due_times.all()).items()}
    assert known == {"later": 60, "missed": 3600, "new": 3600}
    clock.step(120)
    await recurring(astore, pushes, clock, later=HOURLY, newer=HOURLY).start(NOON_S)
    known = {name: due.due_s - NOON_S for name, due in (await due_times.all()).items()}
    assert known == {"later": 60, "missed": 3600, "new": 3600, "newer": 3600}


class Flaky:
    """A client whose first calls fail."""

    def __init__(self, client: Any, failures: int) -> None:
        self._client = client
        self.failures = failures

    def _once(self, name: str, *args: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("Connection reset by peer")
        return getattr(self._client, name)(*args)

    async def hget(self, *args: Any) -> Any:
        """Forward the call, or fail."""
        return await self._once("hget", *args)

    async def eval(self, *args: Any) -> Any:
        """Forward the call, or fail."""
        return await self._once("eval", *args)

    async def hmget(self, *args: Any) -> Any:
        """Forward the call, or fail."""
        return await self._once("hmget", *args)


async def test_a_cursor_survives_a_short_absence_of_the_store(astore: redis.asyncio.Redis) -> None:
    """The call is retried; if the store stays away, it raises StoreError."""
    client = Flaky(astore, 3)
    cursor_store = RedisCursorStore(client, "scrapeq:{q}:state", retry_for_s=5.0)
    await cursor_store.save("k", {"cursor": 1, "token": None})
    client.failures = 2
    assert await cursor_store.get_many(["k", "none"]) == [{"cursor": 1, "token": None}, None]
    client.failures = 1_000
    with pytest.raises(StoreError, match="Connection reset"):
        await RedisCursorStore(client, "scrapeq:{q}:state", retry_for_s=0.05).get_many(["k"])
