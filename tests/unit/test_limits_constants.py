"""The constants of the limit engine agree in Python, in the queue's scripts and in docs/explanation/limits.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrapeq.limits import engine, learning

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "scrapeq" / "queue" / "lua" / "include"
US = 1_000_000
PYTHON = {**vars(learning), **vars(engine)}
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([\d., ]+?)( s)? \|", re.MULTILINE)
LOCAL = re.compile(r"^local ([A-Z_, ]+?) = ([\d., ]+?)\s*(?:--.*)?$", re.MULTILINE)
WINDOWS = re.compile(r"^local WINDOWS = \{([\d, ]+)\}$", re.MULTILINE)
STEPS = re.compile(r"^local STEPS = \{([\d., ]+)\}$", re.MULTILINE)


def numbers(text: str) -> tuple[float, ...]:
    """Parse numbers separated by commas."""
    return tuple(float(one) for one in text.split(","))


def in_lua(name: str) -> dict[str, float]:
    """Return the numeric constants of an include."""
    found: dict[str, float] = {}
    for names, values in LOCAL.findall((LUA / f"{name}.lua").read_text()):
        found.update(zip(names.split(", "), numbers(values), strict=True))
    return found


def test_the_page_has_the_constants_of_the_code() -> None:
    """Each constant of the table has its value in Python."""
    rows = ROW.findall((ROOT / "docs" / "explanation" / "limits.md").read_text())
    assert len(rows) > 20
    for name, values, seconds in rows:
        value = numbers(values)
        own = PYTHON[name]
        own = tuple(own) if isinstance(own, tuple) else (own,)
        assert value == tuple(one / US for one in own) if seconds else value == own, name


@pytest.mark.parametrize("name", ["learn", "limits", "pace"])
def test_the_scripts_have_the_same_constants(name: str) -> None:
    """Each constant that both have has the same value."""
    compared = 0
    for lua, value in in_lua(name).items():
        own = PYTHON.get(lua, PYTHON.get(f"{lua}_US"))
        if isinstance(own, int | float):
            assert value == own, lua
            compared += 1
    assert compared >= 3


def test_the_scripts_have_the_same_windows_and_steps() -> None:
    """Likely windows and factors of trials have the same order."""
    text = (LUA / "learn.lua").read_text()
    (windows,), (steps,) = WINDOWS.findall(text), STEPS.findall(text)
    assert numbers(windows) == learning.WINDOWS_S
    assert numbers(steps) == learning.STEPS
