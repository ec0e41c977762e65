"""Hooks in a real run: their items are written, their errors are dead letters or one error at the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from scrapeq.cli import main

TIMEOUT_S = 60
CONFIG = """\
version: 1
name: hooked
run: {workers: 1}
client: {base_url: "demo://"}
resources:
  - name: issues
    endpoint: repos/octo/tools/issues?per_page=3
    primary_key: id
    handler: own:issues
  - name: comments
    parent: {resource: issues, when: parent.comments > 0}
    endpoint: repos/octo/tools/issues/${parent.number}/comments
    primary_key: id
    on_item: own:comment
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
HOOKS = """\
import asyncio
from collections.abc import AsyncIterator

from scrapeq import Context, Page, Result


async def issues(page: Page, context: Context) -> AsyncIterator[Result]:
    print('{"error": "output of a hook is not a message to the supervisor"}')
    for issue in page.json():
        await asyncio.sleep(0)
        yield {"id": issue["id"], "comments": issue["comments"]}
        yield context.follow("comments", issue)
    if "wrong" in page.requested_url:
        1 / 0
    if context.page == 1:
        yield context.next_page("?per_page=3&page=2")
        yield context.next_page("?per_page=3&page=3&wrong=1")


def comment(record, context):
    return {"id": record["id"], "issue": context.parent["number"]}
"""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `scrapeq run` as a user does."""
    command = [sys.executable, "-m", "scrapeq", "run", "t.yaml", "--progress", "lines"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)


def written(folder: Path, resource: str) -> list[dict[str, int]]:
    return [orjson.loads(line) for line in (folder / "out" / f"{resource}.jsonl").read_bytes().splitlines()]


def test_a_run_writes_what_its_hooks_return(tmp_path: Path) -> None:
    """Two pages of a handler, their comments as on_item returns them, and one page on which the handler fails."""
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "own.py").write_text(HOOKS)
    done = run(tmp_path)
    assert done.returncode == 3, done.stderr
    issues, comments = written(tmp_path, "issues"), written(tmp_path, "comments")
    assert len({issue["id"] for issue in issues}) == len(issues) >= 6
    assert len(comments) == sum(issue["comments"] for issue in issues)
    assert all(set(comment) == {"id", "issue"} for comment in comments)
    output = done.stdout + done.stderr
    assert "handler own:issues: ZeroDivisionError: division by zero (own.py:14)" in output
    assert "Traceback" not in output
    assert "Traceback" in (tmp_path / ".scrapeq" / "run.log").read_text()


@pytest.mark.parametrize("verb", ["run", "validate"])
def test_a_missing_hook_is_an_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """The error has its position in the file, and nothing has been started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("t.yaml").write_text(CONFIG.replace("own:", "own_missing:"))
    assert main([verb, "t.yaml"]) == 2
    errors = capsys.readouterr().err
    assert "t.yaml:9:14: resources[0].handler: module 'own_missing' not found" in errors
    assert "t.yaml:14:14: resources[1].on_item: module 'own_missing' not found" in errors
    assert not Path(".scrapeq").exists()
