"""The command line with a real store: validation, exit codes, streams, and which configuration is used."""

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
    """Return a directory with a configuration that the environment names, with the store of the tests."""
    (tmp_path / "t.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)
    return tmp_path


# --- validation


def test_validate_reports_every_mistake_in_every_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each mistake has its position; a valid file beside an invalid one is reported as valid."""
    (folder / "bad.yaml").write_text("version: 1\nname: x\nresources: 5\nfoo: 1\n")
    assert call("validate", "bad.yaml", "t.yaml") == Exit.USAGE
    printed = capsys.readouterr()
    assert "error: bad.yaml:3:12: resources: " in printed.err
    assert "error: bad.yaml:4:1: foo: unknown key 'foo'" in printed.err
    assert printed.out == "t.yaml: ok, t: pages, notes\n"
    assert call("validate", "t.yaml", "--show") == 0
    assert "base_url: http://127.0.0.1:9/" in capsys.readouterr().out
    assert call("schema") == 0
    assert orjson.loads(capsys.readouterr().out)["type"] == "object"


# --- exit codes and streams


def test_help_loads_no_heavy_module() -> None:
    """The help is fast: modules that only a verb needs are not imported for it."""
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


def test_an_unreachable_store_is_code_6(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the store without its password, with the option before or after the verb."""
    for args in (
        ["--redis", "redis://u:geheim@127.0.0.1:1", "status"],
        ["peek", "--redis=redis://:geheim@127.0.0.1:1"],
    ):
        assert call(*args) == Exit.STORE
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ") and "geheim" not in printed.err and printed.out == ""


def test_each_error_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of each branch of the tree map to their exit codes."""
    codes = {
        OutputError("x"): Exit.OUTPUT,
        StoreBusy("x"): Exit.STORE,
        QueueFull("x"): Exit.STORE,
        RateLimited("x", 1.0): Exit.GAVE_UP,
        KeyboardInterrupt(): Exit.SECOND_SIGNAL,
    }
    assert [report_error(error) for error in codes] == list(codes.values())


def test_an_unexpected_error_is_logged_with_its_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with code 1 and one line that names the log, which is private and has the traceback."""

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("scrapeq.config.load", broken)
    assert call("status") == Exit.INTERNAL
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == "error: internal: ZeroDivisionError: first line"
    assert ".scrapeq/crash.log" in printed.err and "Traceback" not in printed.err
    log = folder / ".scrapeq" / "crash.log"
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_standard_output_may_be_closed_or_full(folder: Path) -> None:
    """A reader that closes the pipe is not an error, a full disk is code 7, a closed output is ignored."""
    command = f"{sys.executable} -m scrapeq"
    script = f"{command} schema | head -1; {command} schema > /dev/full; echo $?"
    script += f"; {command} validate t.yaml >&-; echo $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["{", "7", "0"]
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_the_configuration_is_found_in_order(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of -c, else of the environment, else the only file that ran here; of several one must be chosen."""
    monkeypatch.delenv("SCRAPEQ_CONFIG")
    assert call("status") == Exit.USAGE
    assert "no configuration" in capsys.readouterr().err
    (folder / ".scrapeq").mkdir()
    run_record = folder / ".scrapeq" / "run.json"
    run_record.write_bytes(orjson.dumps({"files": ["t.yaml"]}))
    assert call("peek") == 0
    (folder / "u.yaml").write_text(CONFIG)
    run_record.write_bytes(orjson.dumps({"files": ["t.yaml", "u.yaml"]}))
    capsys.readouterr()
    assert call("peek") == Exit.USAGE
    assert "t.yaml, u.yaml; choose one with -c" in capsys.readouterr().err
    assert call("peek", "-c", "u.yaml") == 0
    run_record.write_bytes(b"junk")
    assert call("peek") == Exit.USAGE


@pytest.mark.parametrize("by", [["scheduler"], ["scheduler", "--queue", "t"]])
def test_the_scheduler_ends_on_a_signal(folder: Path, store_url: str, by: list[str]) -> None:
    """With a file or only the name of a queue, it becomes the leader, and ends with code 0 on SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scrapeq", "--redis", store_url, *by], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "scheduling t until Ctrl-C\n"

        async def has_leader(queue: Queue) -> None:
            while not await queue._redis.exists("scrapeq:{t}:scheduler"):  # noqa: ASYNC110
                await asyncio.sleep(
                    0.02
                )  # another process acquires it, so this test cannot wait for an event

        with_queue(store_url, lambda queue: asyncio.wait_for(has_leader(queue), 20))
        process.terminate()
        assert process.wait(10) == Exit.DONE
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
