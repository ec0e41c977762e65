"""Signals: a drain finishes what is in flight, a second signal ends at once, and a rerun completes either way."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
from chaos_job import Job, Target, alive, repeats, rng, scaled, until

GRACE_S = 10.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(number: signal.Signals, target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """One signal under load: code 5 within the grace time, and no page is ever asked for twice."""
    server = target(300)
    work = job(server.url, scaled(2), concurrency=16)
    slow_s = work.start_up()
    work.children()
    signalled_s = time.monotonic()
    work.kill(number)
    assert work.ends(GRACE_S + 10.0) == 5, work.last_words()
    assert time.monotonic() - signalled_s <= GRACE_S + slow_s
    done = server.count()
    assert 0 < done < work.tasks, "there was nothing to drain, or nothing left"
    assert len(work.items()) == len([path for path in server.answered() if path.startswith("/things/")])
    assert work.run(60.0) == 0, work.last_words()
    assert not repeats(server.asked())
    work.verdict()


def test_drain_beyond_the_grace_time(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """What takes longer than the grace time is given back, not waited for: the rerun has it at once."""
    server = target(6000)
    work = job(server.url, 1, grace="1s", lease_s=60.0, workers=1, concurrency=128)
    work.start()
    until("requests in flight", lambda: server.count() > 50, 30.0)
    signalled_s = time.monotonic()
    work.kill(signal.SIGTERM)
    assert work.ends(20.0) == 5, work.last_words()
    assert time.monotonic() - signalled_s < 5.0
    server.answer_within(10)
    began_s = time.monotonic()
    assert work.run(60.0) == 0, work.last_words()
    assert time.monotonic() - began_s < work.lease_s / 2, (
        "it waited for leases that should have been given back"
    )
    work.verdict()


def test_the_second_signal(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """130 at once, whatever is in flight; nothing is left behind, and a rerun completes."""
    server = target(10_000)
    work = job(server.url, 1, concurrency=32, grace="30s", lease_s=3.0)
    work.start()
    until("requests in flight", lambda: server.count() > 32, 30.0)
    work.children()
    work.kill(signal.SIGINT)
    time.sleep(0.3)
    assert work.process is not None
    assert work.process.poll() is None, "it did not wait for what was in flight"
    signalled_s = time.monotonic()
    work.kill(signal.SIGINT)
    assert work.ends(5.0) == 130, work.last_words()
    assert time.monotonic() - signalled_s < 1.0
    until("no orphans", lambda: not any(map(alive, work.pids)), 3.0)
    server.answer_within(10)
    assert work.run(60.0) == 0, work.last_words()
    assert 32 <= server.count() - work.tasks <= 2 * work.concurrency
    work.verdict()


def test_a_signal_when_nothing_is_left(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """A run that was told to go on ends with 0 when it is stopped with its work done."""
    server = target(0)
    work = job(server.url, 1)
    work.start(keep_running=True)
    until("all items", lambda: work.lines() == 100, 30.0)
    time.sleep(0.5)
    assert work.process is not None
    assert work.process.poll() is None
    work.kill(signal.SIGINT)
    assert work.ends(15.0) == 0, work.last_words()
    work.verdict()


def test_a_signal_at_any_moment(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """While it starts, works or ends, SIGTERM or SIGKILL: no traceback, no orphan; and a rerun completes."""
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
        # before it can take signals, Python's start ends by the signal itself
        assert work.ends(30.0) in (0, 5, -number), work.last_words()
        until("no orphans", lambda: not any(map(alive, work.pids)), 3.0)
    assert work.run(60.0) == 0, work.last_words()
    work.assert_calm()
    ids = work.items()
    assert len(ids) == len(set(ids)) == work.lists * 100
