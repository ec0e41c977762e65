"""
Every sample of README and docs runs as printed.

A comment before a code block says how the block is tested:

    <!-- file: NAME -->      the block is written to NAME, in a separate folder for the page
    <!-- run -->             shell: every command succeeds; console: it prints the shown output; python: it runs
    <!-- run: exits N -->    the last command ends with this code
    <!-- run after: COMMAND; exits N -->    the same, after a command that readers do not see
    <!-- not run: WHY -->    the block needs something that a test does not have
    <!-- the main job -->, <!-- the test command -->    CI runs these two from a fresh clone

Without a comment, YAML must parse, Python must compile, and a block of shell commands is an error. In shown output a
number stands for any number, and a line `...` for any lines.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"(?:^[ ]*<!-- (?P<mark>[^\n]*?) -->\n+)?^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^[ ]*```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
CI_RUNS = ("the main job", "the test command")
SHELL = ("sh", "bash", "console")
TIMEOUT_S = 100.0
NUMBER = re.compile(r"\d[\d,.:]*|\b[0-9a-f]{8,}\b")


@dataclass(frozen=True)
class Sample:
    """One code block of a page."""

    line: int
    mark: str
    language: str
    text: str


def samples(page: Path) -> Iterator[Sample]:
    """Yield the code blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        indent = len(found["indent"])
        lines = [line[indent:] if not line[:indent].strip() else line for line in found["text"].splitlines()]
        number = text.count("\n", 0, found.start()) + 1
        yield Sample(number, found["mark"] or "", found["language"], "\n".join(lines) + "\n")


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a page's folder, with the `scrapeq` of this environment."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SCRAPEQ_", "PYTEST_"))
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "COLUMNS": "120",
    }
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def commands(sample: Sample) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of a shell block and the lines of output that it shows for each."""
    if sample.language != "console":
        yield sample.text, []
        return
    command, output = "", list[str]()
    for line in sample.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], []
        elif line.startswith("> ") and not output:
            command += "\n" + line[2:]
        else:
            output.append(line)
    if command:
        yield command, output


def plain(line: str) -> str:
    """Return a line of output without numbers, hex identifiers and repeated blanks, which differ between runs."""
    return re.sub(r"\s+", " ", NUMBER.sub("0", line)).strip()


def missing(shown: list[str], printed: str) -> list[str]:
    """Return the shown lines that were not printed, or not in that order."""
    rest = iter([plain(line) for line in printed.splitlines()])
    return [line for line in shown if plain(line) not in ("", "...") and plain(line) not in rest]


def run(sample: Sample, folder: Path) -> None:
    """Run or check one sample as its comment says."""
    where = f"line {sample.line}"
    kind, _, argument = sample.mark.partition(": ")
    if kind == "run after":
        prepare, _, argument = argument.rpartition("; ") if "; exits" in argument else (argument, "", "")
        done = shell(prepare, folder)
        assert done.returncode == 0, f"{where}: {prepare}\n{done.stdout}"
        kind = "run"
    if kind == "file":
        path = folder / argument
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sample.text, encoding="utf-8")
    elif kind == "run" and sample.language in SHELL:
        expected = int(argument.removeprefix("exits ")) if argument else 0
        parts = list(commands(sample))
        for index, (command, shown) in enumerate(parts):
            done = shell(command, folder)
            code = expected if index == len(parts) - 1 else 0
            assert done.returncode == code, f"{where}: {command}\n{done.stdout}"
            absent = missing(shown, done.stdout)
            assert not absent, f"{where}: {command}\nnot printed: {absent}\nprinted:\n{done.stdout}"
    elif kind == "run":
        (folder / "sample.py").write_text(sample.text, encoding="utf-8")
        done = shell("python sample.py", folder)
        assert done.returncode == 0, f"{where}: {done.stdout}"
    elif kind in ("not run", *CI_RUNS):
        assert kind in CI_RUNS or argument, f"{where}: say why the sample is not run"
    elif sample.language in SHELL:
        pytest.fail(f"{where}: a shell sample is run, or says why not: <!-- run --> or <!-- not run: WHY -->")
    if sample.language in ("yaml", "yml"):
        yaml.safe_load(sample.text)
    elif sample.language == "python" and kind != "not run":
        compile(sample.text, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_samples_run_as_printed(page: Path, tmp_path: Path) -> None:
    """The blocks of a page run in their order, in one folder."""
    for sample in samples(page):
        run(sample, tmp_path)


def test_a_sample_with_other_output_fails(tmp_path: Path) -> None:
    """The check itself can fail."""
    with pytest.raises(AssertionError, match="not printed"):
        run(Sample(1, "run", "console", "$ echo yes\nno\n"), tmp_path)
    with pytest.raises(AssertionError):
        run(Sample(1, "run", "sh", "false\n"), tmp_path)
    run(Sample(1, "run", "console", "$ echo 12 tasks; echo more; echo end\n34 tasks\n...\nend\n"), tmp_path)
