"""Loads Lua scripts: resolves their includes, inlines their constants, computes the SHA-1 that Redis knows them by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
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


def _read(package: str, name: str) -> str:
    return (resources.files(package) / "lua" / f"{name}.lua").read_text("utf-8")


def _expand(package: str, text: str, swap: Mapping[str, str], seen: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith(INCLUDE):
            included = line.lstrip()[len(INCLUDE) :].strip()
            name = swap.get(included, included)
            if name in seen:
                raise ValueError(f"{name}.lua includes itself: {' -> '.join((*seen, name))}")
            lines += _expand(package, _read(package, f"include/{name}"), swap, (*seen, name))
        elif line.strip() and not line.lstrip().startswith("--"):
            lines.append(line)
    return lines


def _fold(lines: list[str]) -> list[str]:
    """
    Replace the names of numeric constants (`local NAME = 1`, at the outer level) by their values.

    A script runs from its first line at each call, and Lua 5.1 searches a list of captured locals for each closure:
    sixty constants as locals cost 20 us per call, as literals nothing.
    """
    constants: dict[str, str] = {}
    others = []
    for line in lines:
        found = _CONSTANTS.fullmatch(line)
        if found:
            for name, value in zip(found[1].split(", "), found[2].split(", "), strict=True):
                if constants.setdefault(name, value) != value:
                    raise ValueError(f"{name} is {constants[name]} in one include and {value} in another")
        else:
            others.append(line)
    return [_PARTS.sub(lambda m: m[1] or constants.get(m[2], m[2]), line) for line in others]


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
    body = "\n".join(_fold(_expand(package, _read(package, name), swap or {}, (name,))))
    text = (ALLOW_OOM if allow_oom else DENY_OOM) + body
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
