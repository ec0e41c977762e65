"""When schedules are due, and that what was missed is done once."""

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
    """Unix seconds of an ISO time."""
    return datetime.fromisoformat(text).timestamp()


def test_steps_stay_in_step() -> None:
    """After a pause of three hours and a half the next one is half an hour off."""
    assert next_due_s(HOURLY, NOON_S) == NOON_S + 3600
    assert next_due_s(HOURLY, NOON_S, NOON_S) == NOON_S + 3600
    assert next_due_s(HOURLY, NOON_S + 3.5 * 3600, NOON_S) == NOON_S + 4 * 3600
    assert next_due_s(HOURLY, NOON_S + 3600, NOON_S) == NOON_S + 7200
    assert next_due_s(HOURLY, NOON_S, NOON_S + 60) == NOON_S + 3660, "a clock that was set back"


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
        ),  # no such time that day
        ("30 2 * * *", "Europe/Berlin", "2024-10-26T12:00:00Z", "2024-10-27T00:30:00Z"),  # twice that day
    ],
)
def test_a_cron_line_in_a_time_zone(cron: str, zone: str, after: str, due: str) -> None:
    """Also where the clocks are changed."""
    assert next_due_s(Schedule(cron=cron, timezone=zone), at(after)) == at(due)


class Pushes:
    """What was pushed; a resource may fail."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.broken = ""

    async def __call__(self, name: str, occurrence: int) -> None:
        """Push it."""
        if name == self.broken:
            raise UsageError("seeds.csv:7: 1 values for 2 columns")
        self.done.append((name, occurrence))

    def take(self) -> list[tuple[str, int]]:
        """What was pushed since."""
        done, self.done = self.done, []
        return done


def recurring(client: Any, pushes: Pushes, clock: FakeClock, **schedules: Schedule) -> Recurring:
    """Schedules over a store."""
    return Recurring(schedules, DueTimes(client, "scrapeq:{q}:"), pushes, clock=clock)


async def test_what_was_missed_is_done_once(astore: redis.asyncio.Redis) -> None:
    """Due times outlive the process; each occurrence has a higher number."""
    clock, pushes = FakeClock(NOON_S), Pushes()
    assert await recurring(astore, pushes, clock, a=HOURLY).turn() == 3600
    assert pushes.take() == [("a", 1)], "nobody has asked for it yet"
    assert await recurring(astore, pushes, clock, a=HOURLY).turn() == 3600
    clock.step(3.5 * 3600)
    assert await recurring(astore, pushes, clock, a=HOURLY).turn() == 1800
    assert pushes.take() == [("a", 2)]


async def test_what_was_interrupted_goes_on_under_its_number(astore: redis.asyncio.Redis) -> None:
    """And holds up no other."""
    clock, pushes = FakeClock(NOON_S), Pushes()
    pushes.broken = "a"
    both = recurring(astore, pushes, clock, a=HOURLY, b=HOURLY)
    with pytest.raises(UsageError, match=r"seeds\.csv:7"):
        await both.turn()
    assert pushes.take() == [("b", 2)]
    pushes.broken = ""
    await recurring(astore, pushes, clock, a=HOURLY, b=HOURLY).turn()
    assert pushes.take() == [("a", 1)]


async def test_a_schedule_that_was_changed_holds_at_once(astore: redis.asyncio.Redis) -> None:
    """Sooner if it is shorter now; a longer one lets the next one be."""
    clock, pushes = FakeClock(NOON_S), Pushes()
    await recurring(astore, pushes, clock, a=HOURLY).turn()
    assert await recurring(astore, pushes, clock, a=Schedule(every_s=60.0)).turn() == 60
    assert await recurring(astore, pushes, clock, a=Schedule(every_s=86400.0)).turn() == 60
    assert len(pushes.take()) == 1


async def test_a_run_that_begins_asks_for_what_is_not_due_later(astore: redis.asyncio.Redis) -> None:
    """It leaves out what waits for its time; one that is resumed leaves the times as they are."""
    clock, pushes = FakeClock(NOON_S), Pushes()
    dues = DueTimes(astore, "scrapeq:{q}:")
    await dues.keep("later", DueTime(NOON_S + 60, schedule_text(HOURLY)))
    await dues.keep("missed", DueTime(NOON_S - 60, schedule_text(HOURLY)))
    three = recurring(astore, pushes, clock, later=HOURLY, missed=HOURLY, new=HOURLY)
    assert await three.begin(None) == {"later"}
    known = {name: due.due_s - NOON_S for name, due in (await dues.all()).items()}
    assert known == {"later": 60, "missed": 3600, "new": 3600}
    clock.step(120)
    await recurring(astore, pushes, clock, later=HOURLY, newer=HOURLY).begin(NOON_S)
    known = {name: due.due_s - NOON_S for name, due in (await dues.all()).items()}
    assert known == {"later": 60, "missed": 3600, "new": 3600, "newer": 3600}


class Flaky:
    """A client that is away for some calls."""

    def __init__(self, client: Any, failures: int) -> None:
        self._client = client
        self.failures = failures

    def _once(self, name: str, *args: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("Connection reset by peer")
        return getattr(self._client, name)(*args)

    async def hget(self, *args: Any) -> Any:
        """As the client, or away."""
        return await self._once("hget", *args)

    async def eval(self, *args: Any) -> Any:
        """As the client, or away."""
        return await self._once("eval", *args)

    async def hmget(self, *args: Any) -> Any:
        """As the client, or away."""
        return await self._once("hmget", *args)


async def test_a_store_that_is_away_for_a_moment_costs_no_state(astore: redis.asyncio.Redis) -> None:
    """It is tried again; one that stays away is an error of the store."""
    client = Flaky(astore, 3)
    states = RedisCursorStore(client, "scrapeq:{q}:state", patience_s=5.0)
    await states.keep("k", {"cursor": 1, "token": None})
    client.failures = 2
    assert await states.get_many(["k", "none"]) == [{"cursor": 1, "token": None}, None]
    client.failures = 1_000
    with pytest.raises(StoreError, match="Connection reset"):
        await RedisCursorStore(client, "scrapeq:{q}:state", patience_s=0.05).get_many(["k"])
