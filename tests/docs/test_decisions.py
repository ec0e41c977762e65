"""The decision records have one form, and docs/decisions/README.md lists all of them by their titles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("0*.md"))
SECTIONS = ["Context", "Decision", "Cost", "When to look again"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_record_has_a_numbered_title_and_four_sections(record: Path) -> None:
    """The number is that of the file; the list of records repeats the title."""
    text = record.read_text(encoding="utf-8")
    number = record.name[:4]
    title = re.match(r"# (\d+)\. (.+)\n", text)
    assert title is not None and int(title[1]) == int(number)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    row = f"| [{number}]({record.name}) | {title[2]} |"
    assert row in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
