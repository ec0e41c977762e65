"""`scrapeq init`: the file it writes validates, and runs."""

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
    """Each test has a folder of its own to work in."""
    monkeypatch.chdir(tmp_path)


def test_the_plain_file_validates_and_scrapes_the_sample_api(capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, with nothing to fill in."""
    assert main(["init"]) == 0
    assert main(["validate", "scrapeq.yaml"]) == 0
    assert "scrapeq.yaml: ok, scrapeq: issues, comments" in capsys.readouterr().out
    assert main(["run", "scrapeq.yaml", "--progress", "none", "--max-items", "20", "--workers", "1"]) == 5
    records = [orjson.loads(line) for line in Path("out/issues.jsonl").read_bytes().splitlines()]
    assert records and all(record["id"] and record["title"] for record in records)


def test_a_file_that_is_there_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    """Only --force does that; -o - writes none."""
    Path("mine.yaml").write_text("mine")
    assert main(["init", "-o", "mine.yaml"]) == 2
    assert "mine.yaml is there already; --force writes over it" in capsys.readouterr().err
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
    """Its request arrives at the server with the credential, which stands in no file and no output."""
    import asyncio

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b'{"items":[{"id":1},{"id":2}]}', ("Content-Type", "application/json")))

    async with serving(answer) as server:
        command = (
            f"curl '{server.url}/v1/search?q=a%20b' -H 'Authorization: Bearer hidden-token' \\\n"
            "  -H 'sec-fetch-mode: cors' -H 'X-Own: yes' --json '{\"n\": [1, true]}'"
        )
        monkeypatch.setattr("sys.stdin", io.StringIO(command))
        assert main(["--json", "init", "--curl", "-"]) == 0
        (said,) = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
        names = [re.sub(r"export (\w+)=.*", r"\1", line) for line in said["environment"]]
        assert names == ["API_TOKEN"]
        monkeypatch.setenv("API_TOKEN", "hidden-token")
        run = ["run", "scrapeq.yaml", "--progress", "none", "--workers", "1"]
        assert await asyncio.to_thread(_run, run) == 0
    (request,) = server.received
    _check(request, str(said))


def _check(request: Received, said: str) -> None:
    assert request.line == "POST /v1/search?q=a%20b HTTP/1.1"
    assert request.header("authorization") == "Bearer hidden-token"
    assert (request.header("x-own"), request.header("sec-fetch-mode")) == ("yes", None)
    assert orjson.loads(request.body) == {"n": [1, True]}
    assert "hidden-token" not in Path("scrapeq.yaml").read_text() + said
    assert len(Path("out/search.jsonl").read_bytes().splitlines()) == 2


def _run(args: list[str]) -> int:
    """In a process of its own: a run takes signals, which only a main thread has."""
    import subprocess
    import sys

    return subprocess.run([sys.executable, "-m", "scrapeq", *args], timeout=60, check=False).returncode


def test_a_command_that_makes_no_sense_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what is wrong."""
    assert main(["init", "--curl", "curl 'https://acme.test"]) == 2
    assert capsys.readouterr().err == "error: --curl: unclosed quote ' before 'https://acme.test'\n"
    assert not Path("scrapeq.yaml").exists()


def test_an_empty_command_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that is not set, say: it must not write the sample's file."""
    assert main(["init", "--curl", ""]) == 2
    assert "--curl" in capsys.readouterr().err
