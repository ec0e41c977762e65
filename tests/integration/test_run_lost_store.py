"""The real command when the store loses data of a run: it ends with code 6 at once, and says how to go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from page_site import Folder, Site, finish, page_site, until

from scrapeq.exit_codes import Exit

PAGES = 120
PREFIX = "scrapeq:{site}:"


@pytest.fixture
def site() -> Iterator[Site]:
    """Yield a site whose pages take a while."""
    with page_site(latency_s=0.1) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, site: Site) -> Iterator[Folder]:
    """Yield a folder whose commands end with the test."""
    found = Folder(tmp_path, site, PAGES)
    yield found
    found.end()


def damage_all(store: redis.Redis) -> None:
    """Delete everything, as a restart without persistence does."""
    store.flushall()


def damage_control(store: redis.Redis) -> None:
    """Delete the control key, so that the next call creates an empty one."""
    store.delete(PREFIX + "c")


def damage_tasks(store: redis.Redis) -> None:
    """Delete the tasks, to which other keys still refer."""
    store.delete(PREFIX + "task")


def damage_record(store: redis.Redis) -> None:
    """Delete the record of the run."""
    store.delete(PREFIX + "run")


def damage_type(store: redis.Redis) -> None:
    """Write a text where the queue keeps its delayed tasks."""
    store.set(PREFIX + "delayed", "x")


DAMAGES: dict[str, tuple[Callable[[redis.Redis], None], str]] = {
    "everything": (damage_all, "the record of this run is gone"),
    "record": (damage_record, "the record of this run is gone"),
    "control": (damage_control, "the queue of the unfinished run is gone"),
    "tasks": (damage_tasks, "a part of the queue is gone"),
    "type": (damage_type, f"the key {PREFIX}delayed is a string, but the queue needs a zset"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_loss_ends_the_run_at_once(name: str, folder: Folder, site: Site, store_url: str) -> None:
    """The message says what is lost; --full-refresh then fetches everything, and each record is written once."""
    client = redis.Redis(unix_socket_path=store_url.removeprefix("unix://"))
    damage, message = DAMAGES[name]
    running = folder.start("--redis", store_url, "run", "site.yaml")
    until(lambda: len(folder.ids()) >= 8)
    damage(client)
    damaged_s = time.monotonic()
    code, out = finish(running)
    assert time.monotonic() - damaged_s < 5.0
    assert code == Exit.STORE, out
    assert message in out
    assert "site failed: 0 pages" not in out, "the summary counts what was done before"
    if name == "type":
        code, out = folder.run("--redis", store_url, "run", "site.yaml")
        assert code == Exit.STORE
        assert message in out
        client.delete(PREFIX + "delayed")
    else:
        assert "--full-refresh" in out
    site.latency_s = 0.0
    site.requested.clear()
    code, out = folder.run("--redis", store_url, "run", "site.yaml", "--full-refresh", "--progress", "none")
    assert code == Exit.DONE, out
    assert len(set(site.requested)) == PAGES
    assert folder.ids() == sorted(f"/p/{n}" for n in range(PAGES))


@pytest.mark.parametrize("name", ["record", "control", "tasks"])
def test_a_loss_between_two_runs(name: str, folder: Folder, site: Site, store_url: str) -> None:
    """Without its record the next run fetches everything again, and says so; other losses are refused."""
    client = redis.Redis(unix_socket_path=store_url.removeprefix("unix://"))
    code, out = folder.run("--redis", store_url, "run", "site.yaml", "--max-items", "10")
    assert code == Exit.STOPPED, out
    assert len(folder.ids()) == 10
    DAMAGES[name][0](client)
    site.latency_s = 0.0
    site.requested.clear()
    code, out = folder.run("--redis", store_url, "run", "site.yaml")
    if name == "record":
        assert "the record of the last run is missing" in out
    else:
        assert (code, site.requested) == (Exit.STORE, [])
        assert DAMAGES[name][1] in out
        code, out = folder.run("--redis", store_url, "run", "site.yaml", "--full-refresh")
    assert code == Exit.DONE, out
    assert len(set(site.requested)) == PAGES
    assert folder.ids() == sorted(f"/p/{n}" for n in range(PAGES))


def test_seed_and_scheduler_notice_a_loss(folder: Folder, store_url: str) -> None:
    """A command that pushes lines one by one, and one that only sweeps."""
    client = redis.Redis(unix_socket_path=store_url.removeprefix("unix://"))
    seeding = folder.start("--redis", store_url, "-c", "site.yaml", "seed", "-f", "-")
    scheduling = folder.start("--redis", store_url, "scheduler", "--queue", "site")
    assert seeding.stdin is not None
    seeding.stdin.write("https://a.test/1\n")
    seeding.stdin.flush()
    until(lambda: client.exists(PREFIX + "task") and client.exists(PREFIX + "scheduler"))
    time.sleep(0.5)  # the scheduler looks at the queue
    client.flushall()
    seeding.stdin.write("https://a.test/2\n")
    seeding.stdin.flush()
    for process in (seeding, scheduling):
        code, out = finish(process)
        assert code == Exit.STORE, out
        assert "the store lost data: the queue site is gone" in out
