"""The picture of a learned limit that the benchmark draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"
WINDOWS = 60


def drawn(file: Path, *options: str) -> str:
    """Draw the picture; return the text of the file."""
    command = [sys.executable, "benchmarks/quota.py", "--picture", *options, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return file.read_text(encoding="utf-8")


def marks(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    """Return all elements of a kind."""
    return [one for one in root.iter() if one.get("class") == kind]


def test_the_picture_is_well_formed_and_reproducible(tmp_path: Path) -> None:
    """The SVG is XML and has each window, both limits, trials and refusals; a seed always gives the same picture."""
    text = drawn(tmp_path / "one.svg")
    root = ElementTree.fromstring(text)
    assert root.tag == SVG + "svg"
    title = root.findtext(SVG + "title")
    assert title is not None
    assert "refused" in title
    in_legend = 1
    assert len(marks(root, "bar")) == WINDOWS + in_legend
    for kind in ("server", "force"):
        assert len(marks(root, kind)) == 1 + in_legend
    for kind in ("trial", "refused"):
        assert len(marks(root, kind)) > in_legend
    assert drawn(tmp_path / "again.svg") == text
    assert drawn(tmp_path / "other.svg", "--seed", "2") != text


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The error is one line without a traceback, and the exit code is 2."""
    file = tmp_path / "no" / "such" / "folder.svg"
    command = [sys.executable, "benchmarks/quota.py", "--picture", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
