"""The drawing of the layers in docs/explanation/internals.md is the import contract of pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_drawing_shows_the_contract() -> None:
    """Every layer, in order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    page = (ROOT / "docs" / "explanation" / "internals.md").read_text(encoding="utf-8")
    drawing = page.partition("## Layers")[2].split("```")[1]
    assert drawing.split("\n")[1:-1] == layers
