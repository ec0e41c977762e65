"""Every configuration in docs/reference/incremental.md loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrapeq import config

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "incremental.md"
HEAD = "version: 1\nname: t\nclient: {base_url: https://a.test}\n"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)


def indented(text: str) -> str:
    """Indent a text by two spaces."""
    return "".join(f"  {line}\n" for line in text.splitlines())


@pytest.mark.parametrize("block", BLOCKS)
def test_each_example_loads(block: str) -> None:
    """Covers complete files, resources, endpoints and schedules; the missing keys are added."""
    texts = [block]
    if block.startswith("schedule:"):
        texts = [f"resources:\n- {{name: r, endpoint: r, {line}}}\n" for line in block.splitlines()]
    elif block.startswith("endpoint:"):
        texts = [f"resources:\n- name: r\n{indented(block)}"]
    elif block.startswith("- "):
        texts = [f"resources:\n{block}"]
    for text in texts:
        head = "" if text.startswith("version") else HEAD
        assert config.load("t.yaml", text=head + text, env={}).resources


def test_the_page_has_examples() -> None:
    """Guards against a pattern that finds nothing."""
    assert len(BLOCKS) >= 6
