"""The supervisor, the store, the writer and other parts are killed under load: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from chaos_job import ROOT, Job, Target, alive, cpu_s, repeats, rng, scaled, wait_until

ORPHAN_EXIT_S = 3.0
RECONNECT_S = 2.0
SAMPLE_API = ROOT / "configs/api.yaml"
DYING_FETCHER = """
import os
import setproctitle

set_title = setproctitle.setproctitle

def die(title):
    set_title(title)
    if "worker.process" in title:
        with open(os.environ["STARTS"], "a") as starts:
            starts.write("x")
        os._exit(9)

setproctitle.setproctitle = die
"""


def _has_more_lines(work: Job, than: int) -> bool:
    return work.lines() > than


def test_all_processes_end_with_a_killed_supervisor(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """Three seconds after each SIGKILL no process is left, and a rerun continues at once."""
    chance = rng("supervisor")
    server = target(20)
    work = job(server.url, scaled(8))
    kills = scaled(2)
    for _ in range(kills):
        slow_s = work.start_up()
        time.sleep(chance.uniform(0.0, 1.0))
        parts = {part: work.children(part) for part in ("store", "writer", "scheduler", "fetcher")}
        assert all(parts.values()), f"{parts}; {work.last_output()}"
        work.kill()
        assert work.wait(5.0) == -signal.SIGKILL
        if chance.random() < 0.5:  # otherwise the rerun starts while they are still ending
            wait_until("no orphans", lambda: not any(map(alive, work.pids)), ORPHAN_EXIT_S + slow_s)
    work.start()
    assert work.wait(60.0) == 0, work.last_output()
    assert server.count() - work.tasks <= kills * 2 * work.concurrency
    work.assert_complete()


def test_the_sample_api_ends_with_its_run_and_returns_on_its_port(job: Callable[..., Job]) -> None:
    """The sample API ends with its run and returns on the port that the unfinished run's tasks use."""
    work = job("", 0)
    work.file.write_bytes(SAMPLE_API.read_bytes())
    issues = work.folder / "out/issues.jsonl"
    work.start()
    wait_until("the first items", lambda: issues.exists() and issues.stat().st_size, 30.0)
    assert work.children("demo")
    work.kill()
    work.wait(5.0)
    size = issues.stat().st_size
    work.start()  # without waiting
    wait_until("more items", lambda: issues.stat().st_size > size, 30.0)
    wait_until("all its processes", lambda: len(work.children()) == 7, 10.0)
    work.kill(signal.SIGTERM)
    assert work.wait(30.0) == 5, work.last_output()
    assert "api resumes" in work.events()
    work.assert_no_traceback()
    wait_until("no orphans", lambda: not any(map(alive, work.pids)), ORPHAN_EXIT_S)


def test_a_killed_sample_api_is_restarted_on_its_port(job: Callable[..., Job]) -> None:
    """It is restarted on its port, and the run continues."""
    work = job("", 0)
    work.file.write_bytes(SAMPLE_API.read_bytes())
    issues = work.folder / "out/issues.jsonl"
    work.start()
    wait_until("the first items", lambda: issues.exists() and issues.stat().st_size, 30.0)
    (server,) = work.children("demo")
    os.kill(server, signal.SIGKILL)
    wait_until("a restarted sample API", lambda: set(work.children("demo")) - {server}, 10.0)
    size = issues.stat().st_size
    wait_until("more items", lambda: issues.stat().st_size > size, 20.0)
    work.kill(signal.SIGTERM)
    assert work.wait(30.0) == 5, work.last_output()


@pytest.mark.serial  # it measures how soon the store is back
def test_a_killed_store_is_restarted_without_loss(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """It is back within two seconds of each SIGKILL, fetchers continue, and nothing acknowledged is lost."""
    chance = rng("store")
    server = target(40)
    work = job(server.url, scaled(15))
    slow_s = work.start_up()
    kills = scaled(3)
    for _ in range(kills):
        time.sleep(chance.uniform(0.3, 1.2))
        (store,) = wait_until("a store", lambda: work.children("store"), 10.0)
        os.kill(store, signal.SIGKILL)
        killed_s = time.monotonic()
        in_flight_written = work.lines() + 2 * work.concurrency  # written even without a store
        wait_until("items again", partial(_has_more_lines, work, in_flight_written), 30.0)
        away_s = time.monotonic() - killed_s
        assert away_s <= RECONNECT_S + slow_s, f"{away_s:.1f} s without a store; {work.last_output()}"
    assert work.wait(60.0) == 0, work.last_output()
    # An ack whose reply was lost is repeated; a task whose pop was lost returns when its lease expires.
    assert server.count() - work.tasks <= kills * 2 * work.concurrency
    assert work.events().count("the store ended") == kills
    work.assert_complete()


def test_commits_are_sent_again_after_a_killed_writer(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """Commits without a reply are sent to the next writer, and no incomplete line remains."""
    chance = rng("writer")
    server = target(20)
    work = job(server.url, scaled(10))
    work.start_up()
    kills = scaled(4)
    for _ in range(kills):
        time.sleep(chance.uniform(0.0, 0.4))
        (writer,) = wait_until("a writer", lambda: work.children("writer"), 10.0)
        os.kill(writer, signal.SIGKILL)
        before = work.lines()
        wait_until("items again", partial(_has_more_lines, work, before + 1), 20.0)
    assert work.wait(60.0) == 0, work.last_output()
    assert not repeats(server.requested()), "a page was fetched again because the writer was killed"
    work.assert_complete()


def test_children_are_spawned_without_a_killed_fork_server(
    target: Callable[..., Target], job: Callable[..., Job]
) -> None:
    """Its children end with it, and are then spawned without it."""
    server = target(20)
    work = job(server.url, scaled(6))
    work.start_up()
    (fork_server,) = work.children("fork server")
    os.kill(fork_server, signal.SIGKILL)
    wait_until("new fetchers", lambda: work.children("fetcher") and not work.children("fork server"), 20.0)
    assert work.wait(60.0) == 0, work.last_output()
    work.assert_complete()


@pytest.mark.serial  # it measures the CPU of the supervisor
def test_pauses_double_while_a_child_crashes_in_a_loop(
    target: Callable[..., Target], job: Callable[..., Job], tmp_path: Path
) -> None:
    """Pauses double, the supervisor uses little CPU, and a signal still drains the run."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(DYING_FETCHER)
    starts = tmp_path / "starts"
    work = job(target(0).url, 1, workers=1)
    work.first_on_path.append(str(broken))
    work.extra_environment["STARTS"] = str(starts)
    work.start()
    wait_until("a first restart", lambda: "restarting in 0.5 s" in work.events(), 30.0)
    started_s, cpu_before_s = time.monotonic(), cpu_s(work.pid)
    time.sleep(4.0)
    assert cpu_s(work.pid) - cpu_before_s < 0.5 * (time.monotonic() - started_s)
    assert 3 <= len(starts.read_text()) <= 6  # 0.25, 0.5, 1, 2, 4 s
    work.kill(signal.SIGTERM)
    assert work.wait(15.0) == 5, work.last_output()
    work.assert_no_traceback()
