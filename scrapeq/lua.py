"""Loads Lua scripts: resolves their includes, inlines their constants, computes the SHA-1 that Redis knows them by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

INCLUDE = "-- @include "
# When memory is full, releases, acks and parks must still run, since they free it. A push must not.
ALLOW_OOM = "#!lua flags=allow-oom\n"
DENY_OOM = "#!lua\n"

_NUMBER = r"-?\d+(?:\.\d+)?(?:e\d+)?"
_NAME = r"[A-Z][A-Z0-9_]*"
_CONSTANTS = re.compile(rf"local ({_NAME}(?:, {_NAME})*) = ({_NUMBER}(?:, {_NUMBER})*)(?:\s+--.*)?")
_PARTS = re.compile(rf"('(?:[^'\\]|\\.)*')|\b({_NAME})\b")


@dataclass(frozen=True, slots=True)
class Script:
    """A script for EVALSHA: its name, its whole text, and the SHA-1 of that."""

    name: str
    text: str
    sha: str


Line = tuple[str, str]
"""A line of a script: the name of the include that it is from, empty for the script itself; and its text."""


@cache
def _read(package: str, name: str) -> list[str]:
    """Return the lines of a file without its comments, but with its includes."""
    text = (resources.files(package) / "lua" / f"{name}.lua").read_text("utf-8")
    lines = (line for line in text.splitlines() if line.strip())
    return [line for line in lines if not line.lstrip().startswith("--") or line.lstrip().startswith(INCLUDE)]


def expand(package: str, name: str, swap: Mapping[str, str], within: tuple[str, ...] = ()) -> list[Line]:
    """
    Return the lines of a script with its includes in their places.

    Args:
        package, name, swap: As in `load`.
        within: The script and the includes around this one.

    Raises:
        ValueError: an include includes itself.
    """
    lines: list[Line] = []
    origin = name if within else ""
    for line in _read(package, f"include/{name}" if within else name):
        if line.lstrip().startswith(INCLUDE):
            included = line.lstrip()[len(INCLUDE) :].strip()
            included = swap.get(included, included)
            if included in (*within, name):
                raise ValueError(f"{included}.lua includes itself: {' -> '.join((*within, name, included))}")
            lines += expand(package, included, swap, (*within, name))
        else:
            lines.append((origin, line))
    return lines


def take_constants(lines: Iterable[Line], constants: dict[str, str]) -> list[Line]:
    """
    Remove the numeric constants (`local NAME = 1`, at the outer level) from the lines, and add them to a dictionary.

    Raises:
        ValueError: a constant has two values.
    """
    others: list[Line] = []
    for origin, line in lines:
        found = _CONSTANTS.fullmatch(line) if line.startswith("local ") else None
        if found is None:
            others.append((origin, line))
            continue
        for name, value in zip(found[1].split(", "), found[2].split(", "), strict=True):
            if constants.setdefault(name, value) != value:
                raise ValueError(f"{name} is {constants[name]} in one include and {value} in another")
    return others


def fold(line: str, constants: Mapping[str, str]) -> str:
    """
    Replace the names of constants by their values.

    A script runs from its first line at each call, and Lua 5.1 searches a list of captured locals for each closure:
    sixty constants as locals cost 20 us per call, as literals nothing.
    """
    return _PARTS.sub(lambda m: m[1] or constants.get(m[2], m[2]), line)


def load(package: str, name: str, *, allow_oom: bool, swap: Mapping[str, str] | None = None) -> Script:
    """
    Load `<package>/lua/<name>.lua` with its includes and its constants inlined.

    Args:
        package: The package whose `lua/` folder holds the script.
        name: Its name without the extension.
        allow_oom: Whether it may write when the server is over `maxmemory`.
        swap: Replacements for includes, by name; tests swap the clock.

    Raises:
        ValueError: an include includes itself, or a constant has two values.
    """
    constants: dict[str, str] = {}
    lines = take_constants(expand(package, name, swap or {}), constants)
    text = (ALLOW_OOM if allow_oom else DENY_OOM) + "\n".join(fold(line, constants) for _, line in lines)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
