"""README, docs and the package avoid a short list of constructions that are not plain technical English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
)
MODULES = sorted((ROOT / "scrapeq").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scrapeq").rglob("*.lua"))

# Each is replaced by a term of the field, or by a sentence with its subject first (decision 0017).
BANNED = re.compile(
    r"(?<!there )\b(?:is|are) no\b(?! longer)"  # "it is not a duration"
    r"|\banew\b"  # restart
    r"|\bby hand\b"  # manually
    r"|\btold\b|\bheard\b"  # reported, observed
    r"|\berrand\b"  # worker settings
    r"|\bwhoever\b|\bwho waits\b|\bsomebody\b"  # name the actor
    r"|\bkept answers?\b",  # cached responses
    re.IGNORECASE,
)
INVERTED = re.compile(r"^\s*(?:\"\"\"|#|--)\s*(?:Is|Was|Are|Has) \w")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page outside code blocks, with their numbers."""
    text = CODE_BLOCK.sub(lambda block: "\n" * block.group().count("\n"), path.read_text(encoding="utf-8"))
    yield from enumerate(text.splitlines(), 1)


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the messages and docstrings of a module, with their line numbers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments of a module or script, with their line numbers."""
    mark = "--" if path.suffix == ".lua" else "#"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        _, found, comment = line.partition(f"{mark} ")
        if found:
            yield number, f"{mark} {comment}"


def banned(lines: Iterator[tuple[int, str]], path: Path) -> list[str]:
    """Return the lines with a banned construction."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {text.strip()[:100]}"
        for number, text in lines
        if BANNED.search(text) or INVERTED.search(text)
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_avoid_banned_constructions(path: Path) -> None:
    """Covers README, docs, CHANGELOG and CONTRIBUTING."""
    assert banned(prose(path), path) == []


def test_messages_and_docstrings_avoid_banned_constructions() -> None:
    """Covers every string of the package."""
    assert [hit for path in MODULES for hit in banned(strings(path), path)] == []


def test_comments_avoid_banned_constructions() -> None:
    """Covers every comment of the package and of its scripts."""
    assert [hit for path in (*MODULES, *SCRIPTS) for hit in banned(comments(path), path)] == []


@pytest.mark.parametrize(
    "text", ["a circle is no error", "# Is FULL spent, it stays so", "the limit was told", "begin anew"]
)
def test_banned_constructions_are_found(text: str) -> None:
    """The check itself can fail."""
    assert BANNED.search(text) or INVERTED.search(text)
