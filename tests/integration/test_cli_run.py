"""`scrapeq run` as a user sees it: on a terminal, in a pipe, with outputs and folders that do not work."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import orjson
import pytest

from scrapeq.exit_codes import Exit

CONFIG = """\
version: 1
name: t
client: {base_url: "demo://"}
seeds: [{owner: octo, repo: tools}]
resources:
  - name: issues
    primary_key: id
    endpoint:
      path: repos/${seed.owner}/${seed.repo}/issues
      params: {per_page: 50}
      paginator: header_link
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
ALTERNATE_ON, ALTERNATE_OFF = b"\x1b[?1049h", b"\x1b[?1049l"
LIMIT_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with a configuration that scrapes the sample API."""
    (tmp_path / "t.yaml").write_text(CONFIG)
    return tmp_path


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run one command in another process, without a terminal."""
    command = [sys.executable, "-m", "scrapeq", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)


class Terminal:
    """A command on a pseudo-terminal of a given size."""

    def __init__(self, folder: Path, *args: str, columns: int = 80, rows: int = 24) -> None:
        self._end, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        for name in ("COLUMNS", "LINES"):
            env.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scrapeq", *args],
            cwd=folder,
            env=env,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(terminal)
        self.output = b""

    def until(self, words: bytes) -> None:
        """Read until these words were shown or the process ended."""
        deadline = time.monotonic() + LIMIT_S
        while words not in self.output:
            assert time.monotonic() < deadline, self.output[-2000:]
            if select.select([self._end], [], [], 0.5)[0]:
                try:
                    self.output += os.read(self._end, 65536)
                except OSError:  # the other end is closed
                    return

    def press(self, keys: bytes) -> None:
        """Type these keys."""
        os.write(self._end, keys)

    def close(self) -> int:
        """Read until the process ends, and return its exit code."""
        self.until(b"\0no such thing\0")
        os.close(self._end)
        return self.process.wait(LIMIT_S)


def test_the_live_view_restores_the_terminal(folder: Path) -> None:
    """The view uses the alternate screen; Ctrl-C drains and stops; the summary is on the normal screen."""
    terminal = Terminal(folder, "run", "t.yaml", "--keep-running")
    try:
        terminal.until(b"LIMIT")
        terminal.press(b"\x03")
        code = terminal.close()
    finally:
        terminal.process.kill()
    output = terminal.output
    assert code in (Exit.DONE, Exit.STOPPED)
    assert output.count(ALTERNATE_ON) == output.count(ALTERNATE_OFF) == 1
    view, after = output.split(ALTERNATE_OFF)
    for words in ("scrapeq t", "Ctrl-C drains and stops", "LIMIT"):
        assert words.encode() in view
    assert re.search(rb"\x1b\[K(\x1b\[\?25h)?t (finished|stopped)", after)
    assert b"Traceback" not in output


def test_a_run_without_a_terminal_writes_lines_and_a_summary(folder: Path) -> None:
    """It writes plain lines without escape sequences, then the summary; later verbs find the file themselves."""
    done = run(folder, "run", "t.yaml")
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d t begins: 1 tasks? to do, 0 dead letters", lines[0])
    assert any(re.match(r"\d\d:\d\d:\d\d t \d+%, [\d,]+ done, ", line) for line in lines)
    assert re.search(r"^t finished: \d+ pages, \d+ items in ", done.stdout, re.MULTILINE)
    assert "output    out/issues.jsonl" in done.stdout
    status = run(folder, "status", "--json")
    reported = orjson.loads(status.stdout)
    assert (reported["run"]["state"], reported["left"], reported["dead"]) == ("finished", 0, 0)
    assert str(reported["stats"]["items"]).startswith(
        str(len((folder / "out/issues.jsonl").read_text().splitlines()))
    )


def test_json_leaves_standard_output_to_one_object(folder: Path) -> None:
    """With --json, standard output is one object with the exit code; the progress goes to standard error."""
    done = run(folder, "run", "t.yaml", "--json", "--max-requests", "1")
    (reported,) = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert reported["exit"] == done.returncode == Exit.STOPPED
    assert reported["runs"][0]["name"] == "t"
    assert reported["runs"][0]["left"] > 0
    assert "t stopped, work left" in done.stderr


def test_an_unusable_output_or_data_folder_is_one_error(folder: Path) -> None:
    """An output that cannot be written ends with code 7, a data folder that cannot be used with code 6."""
    (folder / "o.yaml").write_text(CONFIG.replace("out/", "/proc/out/"))
    done = run(folder, "run", "o.yaml", "--progress", "none")
    assert done.returncode == Exit.OUTPUT
    assert re.fullmatch(r"error: /proc/out: .*\n", done.stderr)
    (folder / "blocked").mkdir()
    (folder / "blocked" / ".scrapeq").write_text("no folder")
    (folder / "blocked" / "t.yaml").write_text(CONFIG)
    done = run(folder / "blocked", "run", "t.yaml")
    assert (done.returncode, done.stdout) == (Exit.STORE, "")
    assert re.fullmatch(r"error: .*\.scrapeq: .*\n", done.stderr)


def test_only_with_a_child_resource_ends_at_once(folder: Path) -> None:
    """A child resource follows from records of its parent, so the run has nothing to do, and says so."""
    child = '  - {name: notes, parent: issues, endpoint: "x/${parent.id}"}\noutputs:'
    (folder / "c.yaml").write_text(CONFIG.replace("outputs:", child))
    done = run(folder, "run", "c.yaml", "--only", "notes")
    assert "check  --only: notes cannot start without a parent; name its parent, too" in done.stdout
    assert (done.returncode, "0 pages" in done.stdout) == (0, True)


def test_a_rate_limit_that_matched_no_request_is_reported(folder: Path) -> None:
    """A glob that does not cross segments would leave a server without its limit in silence."""
    more = """\
rate_limits:
  - {name: issues, match: {path: "/repos/**"}, rates: [100/1s]}
  - {name: shallow, match: {path: "/repos/*"}, rates: [100/1s]}
"""
    (folder / "t.yaml").write_text(CONFIG + more)
    result = run(folder, "run", "t.yaml")
    assert result.returncode == Exit.DONE, result.stderr
    assert "no request matched 'shallow'" in result.stdout
    assert "no request matched 'issues'" not in result.stdout
