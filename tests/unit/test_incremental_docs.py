"""The examples in docs/incremental.md are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrapeq import config

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "incremental.md"
HEAD = "version: 1\nname: t\nclient: {base_url: https://a.test}\n"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)


def indented(text: str) -> str:
    """Indent by two spaces."""
    return "".join(f"  {line}\n" for line in text.splitlines())


@pytest.mark.parametrize("block", BLOCKS)
def test_its_examples_validate(block: str) -> None:
    """Complete files, resources, endpoints and schedules."""
    pieces = [block]
    if block.startswith("schedule:"):
        pieces = [f"resources:\n- {{name: r, endpoint: r, {line}}}\n" for line in block.splitlines()]
    elif block.startswith("endpoint:"):
        pieces = [f"resources:\n- name: r\n{indented(block)}"]
    elif block.startswith("- "):
        pieces = [f"resources:\n{block}"]
    for piece in pieces:
        head = "" if piece.startswith("version") else HEAD
        assert config.load("t.yaml", text=head + piece, env={}).resources


def test_it_has_examples() -> None:
    """The pattern finds them."""
    assert len(BLOCKS) >= 6
