"""The writer process: an acknowledged item is on the disk exactly once, whichever process is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import pytest
from warcio.archiveiterator import ArchiveIterator

import scrapeq
from scrapeq import plan
from scrapeq.errors import LeaseLost, OutputError, RecordRejected, UsageError
from scrapeq.exit_codes import Exit
from scrapeq.expression import compile_template
from scrapeq.page import Page
from scrapeq.processes.runtime_folder import runtime_folder
from scrapeq.protocols import Item
from scrapeq.writer import client as writer_client
from scrapeq.writer import frames
from scrapeq.writer.client import WriterClient, WriterProcess
from scrapeq.writer.frames import FRAME_MAX_BYTES, FrameReader, FrameTooLarge, pack

OUTPUTS = (plan.Output("jsonl", compile_template("out/${resource}.jsonl")),)
KILLS = 8
CLIENTS = 3
TASKS_AT_ONCE = 10
SEED = 7

PARENT = """
    import asyncio, sys
    from pathlib import Path
    from scrapeq import plan
    from scrapeq.expression import compile_template
    from scrapeq.writer.client import WriterProcess

    async def main():
        outputs = [plan.Output("jsonl", compile_template("out/${resource}.jsonl"))]
        writer = WriterProcess(outputs, base=Path(sys.argv[1]), path=Path(sys.argv[2]))
        await writer.start()
        print(writer.pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let children import the package under test from any working directory."""
    monkeypatch.setenv("PYTHONPATH", str(Path(scrapeq.__file__).parents[1]))


@asynccontextmanager
async def running(base: Path) -> AsyncIterator[tuple[WriterProcess, WriterClient]]:
    writer = WriterProcess(OUTPUTS, base=base, path=runtime_folder(base) / "writer.sock")
    client = WriterClient(writer.path, give_up_s=10.0)
    await writer.start()
    try:
        yield writer, client
    finally:
        await client.close()
        await writer.stop(5.0)


def item(number: int) -> Item:
    return Item("issues", str(number), {"id": number})


def written(base: Path) -> list[int]:
    """Return the ids in the file; every line must be complete."""
    data = (base / "out/issues.jsonl").read_bytes()
    assert data.endswith(b"\n")
    return [orjson.loads(line)["id"] for line in data.splitlines()]


def kill(pid: int | None, number: signal.Signals) -> None:
    assert pid is not None
    os.kill(pid, number)


def ended(pid: int) -> bool:
    """Whether a process is gone or a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


async def test_commits_of_several_clients_are_written_once(tmp_path: Path) -> None:
    """New, repeated and stale commits of several clients at once."""
    async with running(tmp_path) as (writer, client):
        other = WriterClient(writer.path)
        counts = await asyncio.gather(
            *(one.commit(f"t{n}", "5.1", [item(n)]) for n in range(200) for one in (client, other))
        )
        assert sum(counts) == 200
        assert await client.commit("t1", "5.1", [item(1)]) == 0
        with pytest.raises(LeaseLost):
            await other.commit("t1", "4.9", [item(1000)])
        with pytest.raises(UsageError):
            await client.commit("t1", "no token", [])
        with pytest.raises(RecordRejected):
            await client.commit("t1", "6.1", [Item("issues", "1", {"x": object()})])
        await other.close()
        assert sorted(written(tmp_path)) == list(range(200))


async def test_kills_during_commits_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """After repeated kill -9 of the writer, every acknowledged item is there once, and every line is complete."""
    rng = random.Random(SEED)
    acknowledged: set[int] = set()
    numbers = iter(range(1_000_000))
    progress = asyncio.Event()
    is_over = False

    async def fetcher(client: WriterClient) -> None:
        while not is_over:
            number = next(numbers)
            await client.commit(f"t{number}", f"{number + 1}.1", [item(number), item(-number - 1)])
            acknowledged.add(number)
            progress.set()

    async with running(tmp_path) as (writer, _):
        clients = [WriterClient(writer.path) for _ in range(CLIENTS)]
        fetchers = [asyncio.create_task(fetcher(client)) for client in clients for _ in range(TASKS_AT_ONCE)]
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0.02, 0.15))
            kill(writer.pid, signal.SIGKILL)
            assert await writer.wait() == -signal.SIGKILL
            await writer.start()
            progress.clear()
            await asyncio.wait_for(progress.wait(), 10.0)  # the new writer accepts commits
        is_over = True
        await asyncio.wait_for(asyncio.gather(*fetchers), 20.0)
        for client in clients:
            await client.close()
        assert await writer.stop(5.0) == 0
    counted = Counter(written(tmp_path))
    assert max(counted.values()) == 1
    assert set(counted) == acknowledged | {-number - 1 for number in acknowledged}


async def test_sigterm_commits_and_acknowledges_everything_received(tmp_path: Path) -> None:
    """The drain ends with 0; the file contains exactly the acknowledged items."""
    async with running(tmp_path) as (writer, client):
        impatient = WriterClient(writer.path, give_up_s=0.1)
        await impatient.commit("t", "1.1", [])  # connected
        commits = [asyncio.create_task(impatient.commit(f"t{n}", "1.1", [item(n)])) for n in range(3_000)]
        await client.commit("first", "1.1", [])
        kill(writer.pid, signal.SIGTERM)
        assert await writer.wait() == 0
        results = await asyncio.gather(*commits, return_exceptions=True)
        done = [n for n, result in enumerate(results) if result == 1]
        assert done
        assert sorted(written(tmp_path)) == done
        assert {type(result) for result in results} <= {int, OutputError}
        await impatient.close()
        await writer.start()


async def test_a_second_writer_on_the_folder_is_refused(tmp_path: Path) -> None:
    """Another socket, the same folder: the error names the folder, and the first writer is not affected."""
    async with running(tmp_path) as (_, client):
        second = WriterProcess(OUTPUTS, base=tmp_path, path=runtime_folder(tmp_path) / "other.sock")
        with pytest.raises(OutputError, match=f"{tmp_path}/out: another writer"):
            await second.start()
        assert await second.wait() == Exit.OUTPUT
        assert await client.commit("t1", "1.1", [item(1)]) == 1


async def test_an_output_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    """At the start the process reports it, later the commit does; never with a traceback."""
    (tmp_path / "elsewhere").mkdir()
    async with running(tmp_path / "elsewhere") as (_, client):
        with pytest.raises(OutputError, match="not a valid file name"):
            await client.commit("t1", "1.1", [Item("../../x", "1", {})])
        assert await client.commit("t2", "1.1", [item(2)]) == 1
    (tmp_path / "out").write_text("in the way")
    writer = WriterProcess(OUTPUTS, base=tmp_path, path=runtime_folder(tmp_path) / "writer.sock")
    with pytest.raises(OutputError, match=f"{tmp_path}/out"):
        await writer.start()


async def test_without_a_writer_a_commit_fails_in_time(tmp_path: Path) -> None:
    """Without a listener the error names the socket."""
    client = WriterClient(tmp_path / "s", give_up_s=0.05)
    with pytest.raises(OutputError, match="/s: the writer of the output files cannot be reached"):
        await client.commit("t1", "1.1", [item(1)])
    await client.close()


async def test_a_closed_client_fails_its_commits(tmp_path: Path) -> None:
    """No commit waits forever."""
    client = WriterClient(tmp_path / "s")
    commit = asyncio.create_task(client.commit("t1", "1.1", [item(1)]))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(OutputError, match="closed"):
        await commit


@pytest.mark.parametrize(
    "sent",
    [b"\xff\xff\xff\xff", pack({"no": "request"}), pack([1, "t", "1.1", [["r", 5, {}]]]), b"\0\0\0\x02{]"],
    ids=["too long", "an object", "a number as key", "not JSON"],
)
async def test_only_the_client_that_breaks_the_protocol_is_disconnected(tmp_path: Path, sent: bytes) -> None:
    """Its connection ends; the other clients are served."""
    async with running(tmp_path) as (writer, client):
        reader, stream = await asyncio.open_unix_connection(str(writer.path))
        stream.write(sent)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5.0) == b""
        stream.close()
        assert await client.commit("t1", "1.1", [item(1)]) == 1


async def test_a_client_bounds_its_pending_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further commits wait, and all of them complete; a commit that is too large is refused."""
    monkeypatch.setattr(writer_client, "PENDING_MAX", 5)
    async with running(tmp_path) as (_, client):
        most = 0

        async def commit(number: int) -> None:
            nonlocal most
            await client.commit(f"t{number}", "1.1", [item(number)])
            most = max(most, len(client._pending))

        await asyncio.gather(*(commit(n) for n in range(100)))
        assert 0 < most <= 5
        assert len(written(tmp_path)) == 100
        with pytest.raises(RecordRejected, match="too large"):
            await client.commit("big", "1.1", [Item("issues", "b", {"x": "x" * FRAME_MAX_BYTES})])


async def test_items_that_exceed_a_frame_go_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All under the same token: each item is there once, also when some are sent again."""
    monkeypatch.setattr(frames, "FRAME_MAX_BYTES", 2_000)
    async with running(tmp_path) as (_, client):
        items = [item(number) for number in range(1_000)]
        assert await client.commit("t", "1.1", items) == 1_000
        assert await client.commit("t", "1.1", [*items[500:], item(1_000)]) == 1
    assert sorted(written(tmp_path)) == list(range(1_001))


async def test_seeds_and_responses_reach_the_outputs_that_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed names the file; the body arrives in parts and is unchanged."""
    monkeypatch.setattr(frames, "BODY_PART_BYTES", 300)
    outputs = (
        plan.Output("jsonl", compile_template("out/${seed.repo}.jsonl")),
        plan.Output("warc", compile_template("out/warc")),
    )
    writer = WriterProcess(outputs, base=tmp_path, path=runtime_folder(tmp_path) / "writer.sock", name="api")
    client = WriterClient(writer.path, seeds=True, responses=True)
    await writer.start()
    body = os.urandom(2_000)
    page = Page("http://e.test/", 200, (("A", "é"),), body, 0.5, "http://e.test/asked", "GET")
    seeded_item = Item("issues", "1", {"id": 1}, {"repo": "a/b"})
    assert await client.commit("t", "1.1", [seeded_item], page, resource="issues", seed={"repo": "a/b"}) == 1
    assert await client.commit("t2", "1.1", [], page) == 0
    await client.close()
    assert await writer.stop(5.0) == 0
    assert (tmp_path / "out/a_b.jsonl").read_bytes() == b'{"id":1}\n'
    with (tmp_path / "out/warc/api-00001.warc.gz").open("rb") as stream:
        bodies = [record.content_stream().read() for record in ArchiveIterator(stream)]
    assert bodies.count(body) == 2


def test_a_killed_parent_leaves_no_writer_behind(tmp_path: Path) -> None:
    """SIGKILL of the supervisor ends its writer within three seconds."""
    arguments = [
        sys.executable,
        "-c",
        textwrap.dedent(PARENT),
        str(tmp_path),
        str(runtime_folder(tmp_path) / "w"),
    ]
    parent = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not ended(pid)
    parent.kill()
    parent.wait()
    deadline_s = time.monotonic() + 3.0
    while not ended(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_frames_survive_any_split() -> None:
    """The reader yields the same messages whether it is fed byte by byte or all at once."""
    messages = [[1, "ok", 2], {"ä": None}, []]
    stream = b"".join(pack(message) for message in messages)
    for step in (1, 3, len(stream)):
        reader = FrameReader()
        found = [
            m for start in range(0, len(stream), step) for m, _ in reader.feed(stream[start : start + step])
        ]
        assert found == messages
    with pytest.raises(FrameTooLarge):
        list(FrameReader().feed((FRAME_MAX_BYTES + 1).to_bytes(4, "big")))
