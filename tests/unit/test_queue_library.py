"""The library of functions that is derived from the scripts: what is created once, what each call assigns."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from scrapeq.queue import library as module
from scrapeq.queue.library import library


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a package whose only script is `one`; its includes are in `include`."""
    package = f"scripts_of_{uuid.uuid4().hex}"  # files are read once per package and process
    (tmp_path / package / "lua" / "include").mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", package)
    monkeypatch.setattr(module, "ALLOWS_OOM", {"one": True, "two": False})
    return tmp_path / package / "lua"


BASE = """\
local WORDS = {'a', -- the first
  'b'}
local SIZE = 3
local call = redis.call
local seen = {}
local only_here = 1
local function add(x)
  seen[#seen + 1] = x
  return call('GET', SIZE)
end
"""
TWO = "-- @include base\nlocal seen_by_two = 2\nreturn add(seen_by_two)\n"


def test_functions_are_created_once_and_variables_assigned_at_each_call(scripts: Path) -> None:
    """An include's functions and constants appear once; a variable that only the body uses stays in it."""
    (scripts / "include" / "base.lua").write_text(BASE)
    (scripts / "one.lua").write_text("-- @include base\nif only_here then\n  return add(WORDS[1])\nend\n")
    (scripts / "two.lua").write_text(TWO)
    found = library.__wrapped__()
    assert found.text.count("local function add(x)") == 1
    assert found.text.count("local WORDS = {'a', -- the first\n  'b'}") == 1
    assert found.text.count("local call, seen\n") == 1
    assert found.text.count("call = redis.call\nseen = {}\nlocal only_here = 1\n") == 2
    assert "call('GET', 3)" in found.text and "SIZE" not in found.text
    assert re.search(r"one', flags=\{'allow-oom'\}, callback=run", found.text)
    assert re.search(r"two', callback=run", found.text)
    assert found.text.startswith(f"#!lua name={found.name}\n")


def test_a_name_that_is_declared_twice_is_an_error(scripts: Path) -> None:
    """In a library it would hide the other one, whose value an earlier call has left behind."""
    (scripts / "include" / "base.lua").write_text(BASE)
    (scripts / "one.lua").write_text("-- @include base\nlocal seen = 1\nreturn seen\n")
    (scripts / "two.lua").write_text(TWO)
    with pytest.raises(ValueError, match=r"one\.lua and its includes declare twice at the outer level: seen"):
        library.__wrapped__()


def test_the_name_changes_with_the_text() -> None:
    """Two versions of scrapeq use two libraries of one server."""
    assert library().name != library(test_clock=True).name
