"""Hooks in a real run: their items are written, their mistakes are dead letters or one error at the start."""

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
    print('{"error": "what a hook prints is no message to the supervisor"}')
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
    """`scrapeq run`, as a person starts it."""
    command = [sys.executable, "-m", "scrapeq", "run", "t.yaml", "--progress", "lines"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)


def written(folder: Path, resource: str) -> list[dict[str, int]]:
    return [orjson.loads(line) for line in (folder / "out" / f"{resource}.jsonl").read_bytes().splitlines()]


def test_a_run_with_hooks_writes_what_they_give(tmp_path: Path) -> None:
    """Two pages of a handler and the comments of their issues, each as on_item made it; one page fails in it."""
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "own.py").write_text(HOOKS)
    done = run(tmp_path)
    assert done.returncode == 3, done.stderr
    issues, comments = written(tmp_path, "issues"), written(tmp_path, "comments")
    assert len({issue["id"] for issue in issues}) == len(issues) >= 6
    assert len(comments) == sum(issue["comments"] for issue in issues)
    assert all(set(comment) == {"id", "issue"} for comment in comments)
    said = done.stdout + done.stderr
    assert "handler own:issues: ZeroDivisionError: division by zero (own.py:14)" in said
    assert "Traceback" not in said
    assert "Traceback" in (tmp_path / ".scrapeq" / "run.log").read_text()


@pytest.mark.parametrize("verb", ["run", "validate"])
def test_a_hook_that_cannot_be_had_is_one_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """With its place in the file, before anything is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("t.yaml").write_text(CONFIG.replace("own:", "own_missing:"))
    assert main([verb, "t.yaml"]) == 2
    said = capsys.readouterr().err
    assert "t.yaml:9:14: resources[0].handler: module 'own_missing' not found" in said
    assert "t.yaml:14:14: resources[1].on_item: module 'own_missing' not found" in said
    assert not Path(".scrapeq").exists()
