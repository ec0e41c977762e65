"""Every example runs as its first lines say, against a local server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest
from fetch_server import Received, response, serving

from scrapeq.demo import DemoServer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT_S = 60
SECRET = "acme-secret"
NOWHERE = """\
import functools
import redis
import scrapeq

redis.Redis = functools.partial(redis.Redis, port=1)
scrapeq.DPQ = functools.partial(scrapeq.DPQ, patience_s=0.1)
"""
NOTES = [{"id": n, "name": f"Note {n}"} for n in range(5)]


def python(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a user does."""
    return subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def records(folder: Path, resource: str) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (folder / "out" / f"{resource}.jsonl").read_bytes().splitlines()]


def test_the_board_example_scrapes_with_its_handler(tmp_path: Path) -> None:
    """The records of the sample API have the fields that the hooks return."""
    folder = shutil.copytree(EXAMPLES / "board", tmp_path / "board")
    done = python(folder, "-m", "scrapeq", "run", "board.yaml", "--progress", "none", "--max-items", "150")
    assert done.returncode in (0, 5), done.stderr
    assert set(records(folder, "issues")[0]) == {"id", "title", "open", "touched"}
    assert all(set(label) >= {"name"} for label in records(folder, "labels"))
    assert all(set(one) == {"id", "issue", "author", "text"} for one in records(folder, "comments"))


async def test_the_newest_example_lists_issues_of_all_repositories() -> None:
    """The issues are sorted, newest first; a missing repository is an error."""
    async with DemoServer(latency_ms=(0, 0)) as server:
        args = (str(EXAMPLES / "newest.py"), server.url)
        done = await asyncio.to_thread(python, ROOT, *args, "octo/tools", "octo/site")
        missing = await asyncio.to_thread(python, ROOT, *args, "octo/none")
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (0, 10)
    assert lines == sorted(lines, reverse=True)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("error: ") and missing.stderr.endswith(": 404\n")


def test_the_plot_example_draws_a_bar_per_month(tmp_path: Path) -> None:
    """The height of each bar is proportional to the number of records in its month."""
    source = tmp_path / "issues.jsonl"
    stamps = ["2024-01-05T00:00:00Z"] * 3 + ["2024-03-01T00:00:00Z"] * 6 + [""]
    source.write_bytes(b"".join(orjson.dumps({"updated_at": stamp}) + b"\n" for stamp in stamps))
    plot = str(EXAMPLES / "plot.py")
    done = python(tmp_path, plot, "issues.jsonl", "issues.svg")
    assert (done.returncode, done.stdout) == (0, "issues.svg: 10 records, 2 months\n")
    drawn = ElementTree.fromstring((tmp_path / "issues.svg").read_text())
    heights = [float(bar.get("height", "0")) for bar in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert heights == [pytest.approx(heights[1] / 2), max(heights)]
    missing = python(tmp_path, plot, "none.jsonl", "x.svg")
    assert missing.stderr == "error: none.jsonl: No such file or directory; run the scrape first\n"


def installed(folder: Path) -> Path:
    """Install the example package into a folder: its module, and the entry points of its pyproject.toml."""
    project = tomllib.loads((EXAMPLES / "acme" / "pyproject.toml").read_text())["project"]
    shutil.copy(EXAMPLES / "acme" / "acme_scrapeq.py", folder)
    info = folder / "acme_scrapeq-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


async def test_the_acme_package_adds_a_sink_a_paginator_and_a_credential(tmp_path: Path) -> None:
    """Entry points alone add signed requests, pages by a header and a file per record; a rerun changes nothing."""
    packages = tmp_path / "packages"
    packages.mkdir()
    installed(packages)
    shutil.copy(EXAMPLES / "acme" / "acme.yaml", tmp_path)

    async def handle(request: Received, writer: asyncio.StreamWriter) -> None:
        start = int(request.path.partition("continuation=")[2] or 0)
        more = [("X-Continuation", str(start + 2))] if start + 2 < len(NOTES) else []
        body = orjson.dumps(NOTES[start : start + 2])
        writer.write(response(200, body, ("Content-Type", "application/json"), *more))

    args = ("-m", "scrapeq", "run", "acme.yaml", "--progress", "none", "--workers", "1")
    async with serving(handle) as server:
        env = {"ACME_URL": server.url, "ACME_SECRET": SECRET}
        env["PYTHONPATH"] = os.pathsep.join([str(packages), str(ROOT)])
        for _ in range(2):
            done = await asyncio.to_thread(python, tmp_path, *args, **env)
            assert done.returncode == 0, done.stderr
            _check_notes(tmp_path / "notes")
    paths = [request.path for request in server.received]
    assert paths == ["/notes", "/notes?continuation=2", "/notes?continuation=4"] * 2
    for request in server.received:
        digest = hmac.new(SECRET.encode(), f"GET {request.path}".encode(), hashlib.sha256).hexdigest()
        assert request.header("x-signature") == f"me:{digest}"
    assert SECRET not in done.stdout + done.stderr


def _check_notes(folder: Path) -> None:
    texts = sorted(path.read_text() for path in folder.iterdir())
    assert texts == [f"# Note {n}\n\n- id: {n}\n- name: Note {n}\n" for n in range(5)]


@pytest.mark.parametrize("name", ["producer", "consumer", "delayed_tasks_scheduler"])
def test_programs_without_a_store_end_with_a_one_line_error(tmp_path: Path, name: str) -> None:
    """If nothing listens on the port of Redis, the error has one line and no traceback."""
    (tmp_path / "sitecustomize.py").write_text(NOWHERE)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = python(tmp_path, str(EXAMPLES / f"{name}.py"), PYTHONPATH=path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the store cannot be reached") and done.stderr.count("\n") == 1


def test_the_readme_lists_every_example() -> None:
    """README.md links to every example."""
    listed = (EXAMPLES / "README.md").read_text()
    names = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith(("README", "_", "."))}
    assert all(f"({name})" in listed for name in names)


def test_the_code_in_the_guide_matches_the_examples() -> None:
    """The hook and its test in docs/reference/extending.md run with the samples; the other code is an example's."""
    guide = (ROOT / "docs" / "reference" / "extending.md").read_text()
    module = (EXAMPLES / "acme" / "acme_scrapeq.py").read_text()
    project = (EXAMPLES / "acme" / "pyproject.toml").read_text()
    blocks = [block.partition("\n```")[0] for block in guide.split("```python\n")[1:]]
    handler, test, *pieces = blocks
    assert "def issues(page, context)" in handler and "scrape_page(" in test
    assert len(pieces) == 3
    assert all(piece in module for piece in pieces)
    assert guide.split("```toml\n")[1].partition("\n```")[0] in project
