"""Signals: the first one drains the run, the second one ends it at once; a rerun completes either way."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
from chaos_job import Job, Target, alive, repeats, rng, scaled, wait_until

GRACE_S = 10.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_the_run(
    number: signal.Signals, target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """One signal under load: code 5 within the grace time, and no page is requested twice."""
    server = target(300)
    work = job(server.url, scaled(2), concurrency=16)
    slow_s = work.start_up()
    work.children()
    signalled_s = time.monotonic()
    work.kill(number)
    assert work.wait(GRACE_S + 10.0) == 5, work.last_output()
    assert time.monotonic() - signalled_s <= GRACE_S + slow_s
    done = server.count()
    assert 0 < done < work.tasks, "nothing was in flight, or no work was left"
    assert len(work.items()) == len([path for path in server.responded() if path.startswith("/things/")])
    assert work.run(60.0) == 0, work.last_output()
    assert not repeats(server.requested())
    work.assert_complete()


def test_tasks_beyond_the_grace_time_are_released(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """Tasks that take longer than the grace time are released; the rerun gets them at once."""
    server = target(6000)
    work = job(server.url, 1, grace="1s", lease_s=60.0, workers=1, concurrency=128)
    work.start()
    wait_until("requests in flight", lambda: server.count() > 50, 30.0)
    signalled_s = time.monotonic()
    work.kill(signal.SIGTERM)
    assert work.wait(20.0) == 5, work.last_output()
    assert time.monotonic() - signalled_s < 5.0
    server.set_latency(10)
    started_s = time.monotonic()
    assert work.run(60.0) == 0, work.last_output()
    assert time.monotonic() - started_s < work.lease_s / 2, (
        "the rerun waited for leases that should have been released"
    )
    work.assert_complete()


@pytest.mark.serial  # it measures how soon the run ends
def test_the_second_signal_ends_the_run_at_once(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """The run ends at once with 130; no process is left, and a rerun completes."""
    server = target(10_000)
    work = job(server.url, 1, concurrency=32, grace="30s", lease_s=3.0)
    work.start()
    wait_until("requests in flight", lambda: server.count() > 32, 30.0)
    work.children()
    work.kill(signal.SIGINT)
    time.sleep(0.3)
    assert work.process is not None
    assert work.process.poll() is None, "it did not wait for the requests in flight"
    signalled_s = time.monotonic()
    work.kill(signal.SIGINT)
    assert work.wait(5.0) == 130, work.last_output()
    assert time.monotonic() - signalled_s < 1.0
    wait_until("no orphans", lambda: not any(map(alive, work.pids)), 3.0)
    server.set_latency(10)
    assert work.run(60.0) == 0, work.last_output()
    assert 32 <= server.count() - work.tasks <= 2 * work.concurrency
    work.assert_complete()


def test_a_signal_to_an_idle_run_ends_it_with_0(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """A run with --keep-running ends with 0 when it is stopped after its work is done."""
    server = target(0)
    work = job(server.url, 1)
    work.start(keep_running=True)
    wait_until("all items", lambda: work.lines() == 100, 30.0)
    time.sleep(0.5)
    assert work.process is not None
    assert work.process.poll() is None
    work.kill(signal.SIGINT)
    assert work.wait(15.0) == 0, work.last_output()
    work.assert_complete()


def test_a_run_can_be_resumed_after_a_signal_at_any_moment(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """SIGTERM or SIGKILL while the run starts, works or ends: no traceback, no orphan; a rerun completes."""
    chance = rng("moment")
    server = target(5)
    work = job(server.url, scaled(2))
    for _ in range(scaled(5)):
        work.start()
        deadline_s = time.monotonic() + chance.uniform(0.0, 2.0)
        assert work.process is not None
        while time.monotonic() < deadline_s and work.process.poll() is None:
            work.children()
            time.sleep(0.01)
        number = chance.choice((signal.SIGTERM, signal.SIGKILL))
        work.kill(number)
        # while Python starts, before it handles signals, the signal itself ends the process
        assert work.wait(30.0) in (0, 5, -number), work.last_output()
        wait_until("no orphans", lambda: not any(map(alive, work.pids)), 3.0)
    assert work.run(60.0) == 0, work.last_output()
    work.assert_no_traceback()
    ids = work.items()
    assert len(ids) == len(set(ids)) == work.lists * 100
