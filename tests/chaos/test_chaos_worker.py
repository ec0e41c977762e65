"""Fetchers that are killed: nothing is lost, each item is written once, and their tasks return in time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise

from chaos_job import Job, Target, repeats, rng, scaled, zombies_of

KILL_EVERY_S = 2.0
RECOVERY_S = 5.0  # beyond the lease


def test_a_worker_is_killed(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """kill -9 of a random fetcher every two seconds: only the tasks that it held are fetched again."""
    chance = rng("worker")
    server = target(40)
    work = job(server.url, scaled(20), workers=3, lease_s=2.0)
    slow_s = work.start_up()
    kills: list[float] = []
    while work.process is not None and work.process.poll() is None:
        time.sleep(KILL_EVERY_S * chance.uniform(0.5, 1.0) if not kills else KILL_EVERY_S)
        fetchers = work.children("fetcher")
        if fetchers and work.process.poll() is None:
            os.kill(chance.choice(fetchers), signal.SIGKILL)
            kills.append(time.time())
        assert len(zombies_of(work.pid)) <= 1
        assert len(kills) < 100 * scaled(1), work.last_output()
    assert work.wait(5.0) == 0, work.last_output()
    requested = server.requested()
    assert len(kills) >= 2, "the job ended too soon"
    assert len(requested) == work.tasks
    assert server.count() - work.tasks <= len(kills) * work.concurrency
    for path, times in repeats(requested).items():
        for first, second in pairwise(times):
            killed = min((at for at in kills if at >= first), default=None)
            assert killed is not None, f"{path} was repeated although no fetcher was killed after it"
            late_s = second - killed - work.lease_s
            assert late_s <= RECOVERY_S + slow_s, f"{path} returned {late_s:.1f} s after its lease"
    work.assert_complete()
