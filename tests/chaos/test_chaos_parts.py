"""The supervisor, the store and the writer die under load: no orphans, nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from chaos_job import HERE, Job, Target, alive, cpu_s, repeats, rng, scaled, until

ORPHANS_S = 3.0
RECONNECT_S = 2.0
SAMPLE_API = HERE.parents[1] / "configs/api.yaml"
DYING_FETCHER = """
import os
import setproctitle

named = setproctitle.setproctitle

def die(title):
    named(title)
    if "worker.process" in title:
        with open(os.environ["STARTS"], "a") as starts:
            starts.write("x")
        os._exit(9)

setproctitle.setproctitle = die
"""


def test_the_supervisor_dies(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """SIGKILL it, again and again: after three seconds nothing of it is left, and a rerun at once goes on."""
    chance = rng("supervisor")
    server = target(20)
    work = job(server.url, scaled(8))
    kills = scaled(2)
    for _ in range(kills):
        slow_s = work.start_up()
        time.sleep(chance.uniform(0.0, 1.0))
        parts = {part: work.children(part) for part in ("store", "writer", "scheduler", "fetcher")}
        assert all(parts.values()), f"{parts}; {work.last_words()}"
        work.kill()
        assert work.ends(5.0) == -signal.SIGKILL
        if chance.random() < 0.5:  # else the rerun is there before the last of them has gone
            until("no orphans", lambda: not any(map(alive, work.pids)), ORPHANS_S + slow_s)
    work.start()
    assert work.ends(60.0) == 0, work.last_words()
    assert server.count() - work.tasks <= kills * 2 * work.concurrency
    work.verdict()


def test_the_supervisor_of_the_sample_api_dies(job: Callable[..., Job]) -> None:
    """The sample API ends with its run, too, and comes back on the port that the unfinished run's tasks hold."""
    work = job("", 0)
    work.file.write_bytes(SAMPLE_API.read_bytes())
    issues = work.folder / "out/issues.jsonl"
    work.start()
    until("the first items", lambda: issues.exists() and issues.stat().st_size, 30.0)
    assert work.children("demo")
    work.kill()
    work.ends(5.0)
    size = issues.stat().st_size
    work.start()  # at once
    until("more items", lambda: issues.stat().st_size > size, 30.0)
    until("all its processes", lambda: len(work.children()) == 7, 10.0)
    work.kill(signal.SIGTERM)
    assert work.ends(30.0) == 5, work.last_words()
    assert "api resumes" in work.said()
    work.assert_calm()
    until("no orphans", lambda: not any(map(alive, work.pids)), ORPHANS_S)


def test_the_sample_api_dies(job: Callable[..., Job]) -> None:
    """It is started again on its port, and the run goes on."""
    work = job("", 0)
    work.file.write_bytes(SAMPLE_API.read_bytes())
    issues = work.folder / "out/issues.jsonl"
    work.start()
    until("the first items", lambda: issues.exists() and issues.stat().st_size, 30.0)
    (server,) = work.children("demo")
    os.kill(server, signal.SIGKILL)
    until("another one", lambda: set(work.children("demo")) - {server}, 10.0)
    size = issues.stat().st_size
    until("more items", lambda: issues.stat().st_size > size, 20.0)
    work.kill(signal.SIGTERM)
    assert work.ends(30.0) == 5, work.last_words()


def test_the_store_dies(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """SIGKILL it a few times: it is back within two seconds, the fetchers go on, and nothing acknowledged is gone."""
    chance = rng("store")
    server = target(40)
    work = job(server.url, scaled(15))
    slow_s = work.start_up()
    kills = scaled(3)
    for _ in range(kills):
        time.sleep(chance.uniform(0.3, 1.2))
        (store,) = until("a store", lambda: work.children("store"), 10.0)
        os.kill(store, signal.SIGKILL)
        killed_s = time.monotonic()
        held = work.lines() + 2 * work.concurrency  # what is in flight is written without a store
        until("items again", lambda held=held: work.lines() > held, 30.0)
        away_s = time.monotonic() - killed_s
        assert away_s <= RECONNECT_S + slow_s, f"{away_s:.1f} s without a store; {work.last_words()}"
    assert work.ends(60.0) == 0, work.last_words()
    # an ack whose answer was lost with the store is repeated, a pop whose answer was lost comes back by its lease
    assert server.count() - work.tasks <= kills * 2 * work.concurrency
    assert work.said().count("the store ended") == kills
    work.verdict()


def test_the_writer_dies(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """kill -9 it: what was not answered is sent again to the next one, and no half line stays."""
    chance = rng("writer")
    server = target(20)
    work = job(server.url, scaled(10))
    work.start_up()
    kills = scaled(4)
    for _ in range(kills):
        time.sleep(chance.uniform(0.0, 0.4))
        (writer,) = until("a writer", lambda: work.children("writer"), 10.0)
        os.kill(writer, signal.SIGKILL)
        had = work.lines()
        until("items again", lambda had=had: work.lines() > had + 1, 20.0)
    assert work.ends(60.0) == 0, work.last_words()
    assert not repeats(server.asked()), "a page was fetched again because of its writer"
    work.verdict()


def test_the_nursery_dies(target: Callable[..., Target], job: Callable[..., Job]) -> None:
    """kill -9 it: its children end with it, and are spawned again without it."""
    server = target(20)
    work = job(server.url, scaled(6))
    work.start_up()
    (forker,) = work.children("fork server")
    os.kill(forker, signal.SIGKILL)
    until("new fetchers", lambda: work.children("fetcher") and not work.children("fork server"), 20.0)
    assert work.ends(60.0) == 0, work.last_words()
    work.verdict()


def test_a_child_that_crashes_in_a_loop(
    target: Callable[..., Target], job: Callable[..., Job], tmp_path: Path
) -> None:
    """Pauses double, the supervisor stays calm, and a signal still ends it in order."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(DYING_FETCHER)
    starts = tmp_path / "starts"
    work = job(target(0).url, 1, workers=1)
    work.first_on_path.append(str(broken))
    work.extra_environment["STARTS"] = str(starts)
    work.start()
    until("a first restart", lambda: "restarting in 0.5 s" in work.said(), 30.0)
    began_s, cpu_before_s = time.monotonic(), cpu_s(work.pid)
    time.sleep(4.0)
    assert cpu_s(work.pid) - cpu_before_s < 0.5 * (time.monotonic() - began_s)
    assert 3 <= len(starts.read_text()) <= 6  # 0.25, 0.5, 1, 2, 4 s
    work.kill(signal.SIGTERM)
    assert work.ends(15.0) == 5, work.last_words()
    work.assert_calm()
