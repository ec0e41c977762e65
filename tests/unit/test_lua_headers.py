"""The header of each Lua file is complete: a script names its verbs, an include names its functions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "scrapeq"
FILES = sorted(PACKAGE.rglob("*.lua"))
INCLUDES = [path for path in FILES if path.parent.name == "include"]
SCRIPTS = [path for path in FILES if path not in INCLUDES]
FUNCTION = re.compile(r"^local function (\w+)", re.MULTILINE)
VERB = re.compile(r"\b(?:verb|area|what) == '(\w+)'")
# `settle` has numeric codes for its verbs.
CODES = re.compile(r"^local ([A-Z]+(?:, [A-Z]+)*) = 1, 2, 3, 4, 5, 6, 7$", re.MULTILINE)
CALL = re.compile(r"\b([a-z]\w*)\(")


def parts(path: Path) -> tuple[str, str]:
    """Return the header, which is all leading comment lines, and the code after it."""
    lines = path.read_text().splitlines()
    end = next(at for at, line in enumerate(lines) if not line.startswith("--") or line.startswith("-- @"))
    return "\n".join(lines[:end]), "\n".join(lines[end:])


def name(path: Path) -> str:
    """Return the test id of a file."""
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_the_header_of_a_script_lists_every_verb(path: Path) -> None:
    """The verb may be a word or a code."""
    header, code = parts(path)
    verbs = set(VERB.findall(code)) | {
        verb.lower() for names in CODES.findall(code) for verb in names.split(", ")
    }
    assert verbs <= set(re.findall(r"\w+", header))
    assert verbs or path.stem not in ("edit", "fsck", "look", "purge", "settle", "steer")


@pytest.mark.parametrize("path", INCLUDES, ids=name)
def test_the_header_of_an_include_lists_every_function(path: Path) -> None:
    """The header lists all functions and nothing else."""
    header, code = parts(path)
    functions = set(FUNCTION.findall(code))
    assert functions <= set(re.findall(r"\w+", header))
    assert set(CALL.findall(header)) <= functions
