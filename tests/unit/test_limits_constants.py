"""The constants of the limits: the reference in Python, the scripts of the queue, and the page about them agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrapeq.limits import engine, learning

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "scrapeq" / "queue" / "lua" / "include"
US = 1_000_000
FIELDS = {"TOLD"}  # in the scripts a place in the state
PYTHON = {**vars(learning), **vars(engine)}
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([\d., ]+?)( s)? \|", re.MULTILINE)
LOCAL = re.compile(r"^local ([A-Z_, ]+?) = ([\d., ]+?)\s*(?:--.*)?$", re.MULTILINE)
WINDOWS = re.compile(r"^local WINDOWS = \{([\d, ]+)\}$", re.MULTILINE)
STEPS = re.compile(r"^local STEPS = \{([\d., ]+)\}$", re.MULTILINE)


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(float(one) for one in text.split(","))


def in_lua(name: str) -> dict[str, float]:
    """The numbers that an include names."""
    found: dict[str, float] = {}
    for names, values in LOCAL.findall((LUA / f"{name}.lua").read_text()):
        found.update(zip(names.split(", "), numbers(values), strict=True))
    return found


def test_the_page_says_what_the_code_says() -> None:
    """Each constant of the table has the value that it has in Python."""
    said = ROW.findall((ROOT / "docs" / "explanation" / "limits.md").read_text())
    assert len(said) > 20
    for name, values, seconds in said:
        value = numbers(values)
        own = PYTHON[name]
        own = tuple(own) if isinstance(own, tuple) else (own,)
        assert value == tuple(one / US for one in own) if seconds else value == own, name


@pytest.mark.parametrize("name", ["learn", "limits", "pace"])
def test_the_scripts_have_the_same_constants(name: str) -> None:
    """A number of the scripts that Python names, too, is the same one."""
    compared = 0
    for lua, value in in_lua(name).items():
        own = PYTHON.get(lua, PYTHON.get(f"{lua}_US"))
        if isinstance(own, int | float) and lua not in FIELDS:
            assert value == own, lua
            compared += 1
    assert compared >= 3


def test_the_scripts_have_the_same_windows_and_steps() -> None:
    """What is likely, and how bold a trial is, in the same order."""
    text = (LUA / "learn.lua").read_text()
    (windows,), (steps,) = WINDOWS.findall(text), STEPS.findall(text)
    assert numbers(windows) == learning.WINDOWS_S
    assert numbers(steps) == learning.STEPS
