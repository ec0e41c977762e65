"""The command line over a real store: checking, exit codes, streams, which configuration is meant."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from cli_calls import CONFIG, call, with_queue

from scrapeq.cli.error_output import report_error
from scrapeq.errors import OutputError, QueueFull, RateLimited, StoreBusy
from scrapeq.exit_codes import Exit
from scrapeq.queue import Queue


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_url: str) -> Path:
    """A folder of its own with a configuration, which the environment names; its store is the tests'."""
    (tmp_path / "t.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)
    return tmp_path


# --- checking


def test_validate_names_every_mistake_of_every_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each mistake with its place; a good file beside a bad one is still told to be good."""
    (folder / "bad.yaml").write_text("version: 1\nname: x\nresources: 5\nfoo: 1\n")
    assert call("validate", "bad.yaml", "t.yaml") == Exit.USAGE
    said = capsys.readouterr()
    assert "error: bad.yaml:3:12: resources: " in said.err
    assert "error: bad.yaml:4:1: foo: unknown key 'foo'" in said.err
    assert said.out == "t.yaml: ok, t: pages, notes\n"
    assert call("validate", "t.yaml", "--show") == 0
    assert "base_url: http://127.0.0.1:9/" in capsys.readouterr().out
    assert call("schema") == 0
    assert orjson.loads(capsys.readouterr().out)["type"] == "object"


# --- codes and streams


def test_help_loads_no_heavy_module() -> None:
    """The help appears at once: what only a verb needs is not imported for it."""
    heavy = {
        "pydantic",
        "redis",
        "httpx",
        "aiohttp",
        "structlog",
        "orjson",
        "yaml",
        "rich.console",
        "asyncio",
        "uvloop",
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "scrapeq", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "scrapeq.cli.app" in imported
    assert imported & heavy == set()
    assert done.stdout.index("run ") < done.stdout.index("status ") < done.stdout.index("dead ")


def test_a_store_that_is_away_is_code_6(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One error that names the store without its password, whatever stands before the verb or after it."""
    for args in (
        ["--redis", "redis://u:geheim@127.0.0.1:1", "status"],
        ["peek", "--redis=redis://:geheim@127.0.0.1:1"],
    ):
        assert call(*args) == Exit.STORE
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and "geheim" not in said.err and said.out == ""


def test_each_error_has_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    """The error tree in exit codes."""
    codes = {
        OutputError("x"): Exit.OUTPUT,
        StoreBusy("x"): Exit.STORE,
        QueueFull("x"): Exit.STORE,
        RateLimited("x", 1.0): Exit.GAVE_UP,
        KeyboardInterrupt(): Exit.SECOND_SIGNAL,
    }
    assert [report_error(error) for error in codes] == list(codes.values())


def test_what_nobody_foresaw_keeps_its_traceback_in_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An internal error: one line with the place of the log, code 1, and the traceback in it."""

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("nobody\nforesaw")

    monkeypatch.setattr("scrapeq.config.load", broken)
    assert call("status") == Exit.INTERNAL
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "error: internal: ZeroDivisionError: nobody"
    assert ".scrapeq/crash.log" in said.err and "Traceback" not in said.err
    log = folder / ".scrapeq" / "crash.log"
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
def test_standard_output_may_be_gone_or_full(folder: Path) -> None:
    """A reader that has enough is no error; a full disk is code 7; a closed output is silence."""
    command = f"{sys.executable} -m scrapeq"
    script = f"{command} schema | head -1; {command} schema > /dev/full; echo $?"
    script += f"; {command} validate t.yaml >&-; echo $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["{", "7", "0"]
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_the_configuration_is_found(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """-c, else the environment, else the only file that ran here; of several one must be chosen."""
    monkeypatch.delenv("SCRAPEQ_CONFIG")
    assert call("status") == Exit.USAGE
    assert "no configuration" in capsys.readouterr().err
    (folder / ".scrapeq").mkdir()
    remembered = folder / ".scrapeq" / "run.json"
    remembered.write_bytes(orjson.dumps({"files": ["t.yaml"]}))
    assert call("peek") == 0
    (folder / "u.yaml").write_text(CONFIG)
    remembered.write_bytes(orjson.dumps({"files": ["t.yaml", "u.yaml"]}))
    capsys.readouterr()
    assert call("peek") == Exit.USAGE
    assert "t.yaml, u.yaml; choose one with -c" in capsys.readouterr().err
    assert call("peek", "-c", "u.yaml") == 0
    remembered.write_bytes(b"junk")
    assert call("peek") == Exit.USAGE


@pytest.mark.parametrize("by", [["scheduler"], ["scheduler", "--queue", "t"]])
def test_the_scheduler_ends_on_a_signal(folder: Path, store_url: str, by: list[str]) -> None:
    """With a file or with a queue's name alone: it says so, schedules, and ends with code 0 on SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scrapeq", "--redis", store_url, *by], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "scheduling t until Ctrl-C\n"

        async def is_elected(queue: Queue) -> None:
            while not await queue._redis.exists("scrapeq:{t}:scheduler"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # another process does it: there is no event to wait for

        with_queue(store_url, lambda queue: asyncio.wait_for(is_elected(queue), 20))
        process.terminate()
        assert process.wait(10) == Exit.DONE
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
