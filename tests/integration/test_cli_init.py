"""`scrapeq init` writes a file that is valid and runs."""

from __future__ import annotations

import io
import re
from pathlib import Path

import orjson
import pytest
from fetch_server import Received, response, serving

from scrapeq.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in its own directory."""
    monkeypatch.chdir(tmp_path)


def test_the_default_file_is_valid_and_scrapes_the_sample_api(capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no change."""
    assert main(["init"]) == 0
    assert main(["validate", "scrapeq.yaml"]) == 0
    assert "scrapeq.yaml: ok, scrapeq: issues, comments" in capsys.readouterr().out
    assert main(["run", "scrapeq.yaml", "--progress", "none", "--max-items", "20", "--workers", "1"]) == 5
    records = [orjson.loads(line) for line in Path("out/issues.jsonl").read_bytes().splitlines()]
    assert records and all(record["id"] and record["title"] for record in records)


def test_an_existing_file_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    """Only --force overwrites it; -o - does not write a file."""
    Path("mine.yaml").write_text("mine")
    assert main(["init", "-o", "mine.yaml"]) == 2
    assert "mine.yaml exists; overwrite it with --force" in capsys.readouterr().err
    assert Path("mine.yaml").read_text() == "mine"
    assert main(["init", "-o", "mine.yaml", "--force"]) == 0
    assert "name: mine " in Path("mine.yaml").read_text()
    assert main(["init", "-o", "-"]) == 0
    assert "version: 1" in capsys.readouterr().out
    assert main(["init", "-o", "no/such/folder.yaml"]) == 2
    assert "no/such/folder.yaml: cannot be written" in capsys.readouterr().err


async def test_the_file_of_a_curl_command_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server gets the request with the credential, which is neither in the file nor in any output."""
    import asyncio

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b'{"items":[{"id":1},{"id":2}]}', ("Content-Type", "application/json")))

    async with serving(respond) as server:
        command = (
            f"curl '{server.url}/v1/search?q=a%20b' -H 'Authorization: Bearer hidden-token' \\\n"
            "  -H 'sec-fetch-mode: cors' -H 'X-Own: yes' --json '{\"n\": [1, true]}'"
        )
        monkeypatch.setattr("sys.stdin", io.StringIO(command))
        assert main(["--json", "init", "--curl", "-"]) == 0
        (result,) = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
        names = [re.sub(r"export (\w+)=.*", r"\1", line) for line in result["environment"]]
        assert names == ["API_TOKEN"]
        monkeypatch.setenv("API_TOKEN", "hidden-token")
        run = ["run", "scrapeq.yaml", "--progress", "none", "--workers", "1"]
        assert await asyncio.to_thread(_run, run) == 0
    (request,) = server.received
    _check(request, str(result))


def _check(request: Received, output: str) -> None:
    assert request.line == "POST /v1/search?q=a%20b HTTP/1.1"
    assert request.header("authorization") == "Bearer hidden-token"
    assert (request.header("x-own"), request.header("sec-fetch-mode")) == ("yes", None)
    assert orjson.loads(request.body) == {"n": [1, True]}
    assert "hidden-token" not in Path("scrapeq.yaml").read_text() + output
    assert len(Path("out/search.jsonl").read_bytes().splitlines()) == 2


def _run(args: list[str]) -> int:
    """Run it in another process: a run handles signals, which needs the main thread."""
    import subprocess
    import sys

    return subprocess.run([sys.executable, "-m", "scrapeq", *args], timeout=60, check=False).returncode


def test_an_invalid_curl_command_does_not_write_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error says what is wrong."""
    assert main(["init", "--curl", "curl 'https://acme.test"]) == 2
    assert capsys.readouterr().err == "error: --curl: unclosed quote ' before 'https://acme.test'\n"
    assert not Path("scrapeq.yaml").exists()


def test_an_empty_curl_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An unset shell variable must not lead to the default file."""
    assert main(["init", "--curl", ""]) == 2
    assert "--curl" in capsys.readouterr().err
