"""`scrapeq plan` with a real store: estimates from seeds, from queued tasks and from assumptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_calls import CONFIG, call, json_out, with_queue

from scrapeq.exit_codes import Exit
from scrapeq.queue import Entry, Limit, Queue, Rate
from scrapeq.queue.commands import ACK
from scrapeq.task import Group, NewTask

FILE = """\
version: 1
name: t
client: {base_url: "http://api.example/"}
rate_limits:
  - {name: core, rates: [{limit: 60, interval: 1m}]}
  - {name: search, match: {path: "/search/*"}, partition_by: [seed.n], rates: [{limit: 30, interval: 1m}]}
seeds: [{n: 1}, {n: 2}]
resources:
  - {name: pages, endpoint: {path: "p/${seed.n}", paginator: header_link}}
  - {name: notes, parent: pages, endpoint: "p/${seed.n}/notes/${parent.id}"}
  - {name: hits, parent: notes, endpoint: "search/${parent.word}"}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
CORE = "core|api.example,"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_url: str) -> Path:
    """Return a directory with a configuration that the environment names, with the store of the tests."""
    (tmp_path / "t.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)
    return tmp_path


def planned(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    """Return the estimate in JSON."""
    capsys.readouterr()
    assert call("plan", *args, "--json") == 0
    (reported,) = json_out(capsys)
    return dict(reported)


def by_label(reported: dict[str, Any]) -> dict[str, int]:
    """Return the requests by resource."""
    return {one["label"]: one["requests"] for one in reported["work"]}


def test_an_empty_queue_is_planned_from_the_seeds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only first pages count unless --pages is given; unknown numbers are listed with the option for them."""
    reported = planned(capsys)
    assert (by_label(reported), reported["left"]) == ({"pages": 2}, 0)
    assert any("notes is not included" in text and "--assume notes=N" in text for text in reported["assumed"])
    assert any(
        "each paginated list has one page; to assume more: --pages N" in text for text in reported["assumed"]
    )
    reported = planned(capsys, "--pages", "60")
    assert by_label(reported) == {"pages": 120}
    assert 110 <= reported["done_s"] <= 130  # one per second, however many lists
    (limit,) = reported["limits"]
    assert (limit["name"], limit["requests"], round(limit["share"])) == (CORE, 120, 1)


def test_follow_ups_are_assumed_per_page_per_record_or_in_total(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They count per page or record of the parent resource, under the limits of their own URLs."""
    reported = planned(
        capsys, "--pages", "5", "--records", "20", "--assume", "notes=0.5/record", "--assume", "hits=2/page"
    )
    assert by_label(reported) == {"pages": 10, "notes": 100, "hits": 200}
    limits = {one["name"]: one["requests"] for one in reported["limits"]}
    assert limits[CORE] == 310
    assert sorted(limits[name] for name in limits if name.startswith("search|")) == [100, 100]
    done = {one["label"]: one["done_s"] for one in reported["work"]}
    assert done["pages"] < done["notes"] < done["hits"] == reported["done_s"]
    reported = planned(capsys, "--assume", "pages=7", "--assume", "notes=9")
    assert by_label(reported) == {"pages": 7, "notes": 9}


def test_queued_tasks_are_planned_by_priority(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ready, delayed and leased tasks count; the highest priority is done first; --fresh uses the seeds."""
    payload = {"v": 1, "resource": "notes", "method": "GET", "url": "http://api.example/p/1"}
    group = Group(CORE, (), CORE)

    async def fill(queue: Queue) -> None:
        await queue.push_many(NewTask(payload, float(priority), group=group) for priority in range(100))
        await queue.push(payload, delay_s=600, group=group)
        assert await queue.pop() is not None

    with_queue(store_url, fill)
    before = with_queue(store_url, lambda queue: queue.counts())
    reported = planned(capsys)
    assert (reported["known"], by_label(reported)) == ("101 tasks in the queue", {"notes": 101})
    assert 590 <= reported["done_s"] <= 610
    assert any("1 task in flight" in text for text in reported["assumed"])
    highest = [band["highest"] for band in reported["bands"]]
    assert highest == sorted(highest, reverse=True) and len(highest) == 10
    done = [band["done_s"] for band in reported["bands"][:-1]]
    assert done == sorted(done)
    after = with_queue(store_url, lambda queue: queue.counts())
    assert (after.ready, after.delayed, after.leased) == (before.ready, before.delayed, before.leased)
    assert by_label(planned(capsys, "--fresh")) == {"pages": 2}


def test_the_state_of_limits_in_the_store_counts(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A park delays the work, a manual setting overrides the file, --limit overrides both; the store is unchanged."""

    async def fill(queue: Queue) -> None:
        group = Group(CORE, (), CORE)
        lease = await queue.acquire(group)
        assert lease is not None
        await queue.settle(Entry(ACK, lease))
        await queue.push_many(NewTask({"n": n}, group=group) for n in range(10))
        await queue.park([CORE], for_s=300)
        await queue.define({"core": Limit((Rate(1, 10.0),), version=5)})

    with_queue(store_url, fill)
    reported = planned(capsys)
    assert 390 <= reported["done_s"] <= 420
    assert with_queue(store_url, lambda queue: queue.definitions()).keys() == {"core"}
    assert planned(capsys, "--limit", "core=10/1s")["done_s"] < 10


def test_work_that_never_ends_is_reported(
    folder: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a paused limit the output does not contain a time, but names the limit."""

    async def fill(queue: Queue) -> None:
        await queue.push({"n": 1}, group=Group(CORE, (), CORE))
        await queue.pause([CORE])

    with_queue(store_url, fill)
    assert planned(capsys)["left"] == 1
    assert call("plan") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("t  never done: 1 of 1 request cannot be sent: core api.example does not open")


def test_the_text_says_how_long_the_work_takes_and_why(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The total comes first, then the assumptions, the limits, the resources, and the progress over time."""
    assert call("plan", "--pages", "300", "--assume", "notes=30", "--latency", "50ms") == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].startswith("t  done after 1") and "630 requests" in lines[0]
    for words in (
        "2 first pages, from the seeds",
        "notes: 30 requests in total (--assume)",
        "a response takes 50ms; 64 concurrent requests; no refusals",
        "LIMIT",
        "core api.example",
        "60/1m",
        "RESOURCE",
        "50% after 5m",
    ):
        assert words in printed


def test_a_limit_without_a_known_rate_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a data folder the command does not start a store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(CONFIG)
    assert call("plan", "t.yaml") == 0
    printed = capsys.readouterr().out
    assert (
        "default 127.0.0.1:9: unknown rate (learned during the run); to assume one: --limit default=5000/1h"
        in printed
    )
    assert not (tmp_path / ".scrapeq").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--pages", "0"], "--pages"),
        (["--assume", "notes"], "--assume: expected RESOURCE=N, got 'notes'"),
        (["--assume", "notes=-4"], "expected RESOURCE=N, got 'notes=-4'"),
        (["--assume", "nots=4"], "did you mean notes?"),
        (["--assume", "notes=4/record"], "needs the records per page: --records N"),
        (["--assume", "hits=4/page"], "the pages of its parent are unknown; give the total, hits=N"),
        (["--limit", "core"], "--limit: expected NAME=RATE, got 'core'"),
        (["--limit", "cor=1/1m"], "unknown limit 'cor'; known limits: default, core, search"),
        (["--limit", "core=1/m"], "write 1/1m"),
        (["--latency", "3"], "--latency: 3 has no unit"),
    ],
)
def test_wrong_usage_is_one_error_and_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    """Each mistake gives one error on standard error, code 2, and nothing on standard output."""
    assert call("plan", *args) == Exit.USAGE
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("error: ") and printed.err.count("error: ") == 1
    assert printed.out == "" and "Traceback" not in printed.err
