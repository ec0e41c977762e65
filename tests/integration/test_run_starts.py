"""The real command when a run cannot start, or a part of it is killed while it starts: no task pays for that."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from page_site import Folder, Site, page_site, until

from scrapeq import plan
from scrapeq.errors import OutputError
from scrapeq.exit_codes import Exit
from scrapeq.expression import compile_template
from scrapeq.processes.child import Child
from scrapeq.supervise.run_children import RunChildren
from scrapeq.writer.client import WriterKilled, WriterProcess

PAGES = 40


@pytest.fixture
def site() -> Iterator[Site]:
    """Yield a site whose pages take longer than a start."""
    with page_site(latency_s=1.5) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, site: Site) -> Iterator[Folder]:
    """Yield a folder whose commands end with the test."""
    found = Folder(tmp_path, site, PAGES, concurrency=8)
    yield found
    found.end()


def test_failed_starts_take_no_task(folder: Folder, site: Site, store_url: str) -> None:
    """An output that another process holds: the command fails four times, without a request and without a charge."""
    code, out = folder.run("--redis", store_url, "run", "site.yaml", "--max-items", "8")
    assert code == Exit.STOPPED, out
    text = (folder.path / "site.yaml").read_text()
    holding_path = folder.path / "holding"
    holding_path.mkdir()
    holder = Folder(holding_path, site, 1)
    held = text.replace("name: site", "name: held").replace("out/", f"{folder.path}/out/")
    (holding_path / "site.yaml").write_text(held.replace("p/${seed.n}", "held/${seed.n}"))
    holding = holder.start("run", "site.yaml", "--keep-running")
    until(lambda: any(path.startswith("/held") for path in site.requested))
    second = text.replace("name: site", "name: second").replace("out/", "b/")
    (folder.path / "second.yaml").write_text(second.replace("p/${seed.n}", "second/${seed.n}"))
    try:
        before = Counter(site.requested)
        for files in (["second.yaml", "site.yaml"], ["site.yaml"], ["site.yaml"], ["site.yaml"]):
            code, out = folder.run("--redis", store_url, "run", *files, "--progress", "none")
            assert code == Exit.OUTPUT, out
        made = Counter(site.requested) - before
        assert {path for path in made if not path.startswith("/held")} == set()
        holding.send_signal(signal.SIGTERM)
        holding.communicate()
    finally:
        holder.end()
    site.latency_s = 0.0
    code, out = folder.run("--redis", store_url, "run", "site.yaml")
    assert code == Exit.DONE, out
    status = folder.run("--redis", store_url, "-c", "site.yaml", "status", "--json")[1]
    assert orjson.loads(status)["counters"]["expired"] == 0


async def test_the_start_of_a_writer_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed one is started again; one that reports an error is not, nor one that is always killed."""
    real_start, kills, starts = Child.start, [2], [0]

    async def start(child: Child) -> None:
        await real_start(child)
        starts[0] += 1
        if kills[0]:
            kills[0] -= 1
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)

    monkeypatch.setattr(Child, "start", start)
    monkeypatch.setattr("scrapeq.supervise.run_children.WRITER_RESTART_FIRST_S", 0.01)
    events: list[str] = []
    failures: list[tuple[int, str]] = []

    def children() -> RunChildren:
        return RunChildren(None, events.append, lambda *failure: failures.append(failure), lambda: False)

    def writer(file: str) -> WriterProcess:
        outputs = [plan.Output("jsonl", compile_template(file), ())]
        return WriterProcess(outputs, base=tmp_path, path=tmp_path / "w.sock", name="w")

    started = children()
    await started.keep_writer(writer("out.jsonl"))
    await started.drain(1.0)
    await started.close()
    assert starts == [3]
    assert [re.sub(r"\d+", "N", event) for event in events] == [
        "the writer of the output files was killed during its start (code -N); restarting it"
    ] * 2
    kills[0] = 100
    with pytest.raises(WriterKilled):
        await children().keep_writer(writer("out.jsonl"))
    kills[0], starts[0] = 0, 0
    with pytest.raises(OutputError):
        await children().keep_writer(writer("/proc/none/out.jsonl"))
    assert starts == [1]


def test_max_items_is_exact_and_loses_nothing(tmp_path: Path, store_url: str) -> None:
    """Pages of 50 records: 10 are written, then 60 more, then the rest; each is written once."""
    (tmp_path / "t.yaml").write_text(
        """\
version: 1
name: t
client: {base_url: "demo://"}
resources:
  - {name: issues, endpoint: {path: repos/octo/tools/issues, params: {per_page: 50}, paginator: header_link}}
  - {name: more, endpoint: {path: repos/octo/site/issues, params: {per_page: 50}, paginator: header_link}}
outputs: [{type: jsonl, path: "out/all.jsonl"}]
"""
    )
    with page_site() as site:
        runs = Folder(tmp_path, site, 1)

    def lines() -> list[bytes]:
        return (tmp_path / "out/all.jsonl").read_bytes().splitlines()

    for most, total in ((10, 10), (60, 70)):
        code, out = runs.run("--redis", store_url, "run", "t.yaml", "--max-items", str(most))
        assert code == Exit.STOPPED, out
        assert f"stopped at --max-items {most}" in out
        assert len(lines()) == total
    code, out = runs.run("--redis", store_url, "run", "t.yaml")
    assert code == Exit.DONE, out
    ids = [orjson.loads(line)["id"] for line in lines()]
    assert len(ids) == len(set(ids)) > 300
