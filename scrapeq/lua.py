"""Find .lua scripts, put their includes in place, name them by their SHA-1; nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

INCLUDE = "-- @include "
# Releases, acks and parks must go on when memory is full: they are what frees it. A push must not.
ALLOW_OOM = "#!lua flags=allow-oom\n"
DENY_OOM = "#!lua\n"


@dataclass(frozen=True, slots=True)
class Script:
    """A script ready for EVALSHA: its name, its whole text and the SHA-1 that Redis knows it by."""

    name: str
    text: str
    sha: str


def _read(package: str, name: str) -> str:
    return (resources.files(package) / "lua" / f"{name}.lua").read_text("utf-8")


def _expand(package: str, text: str, swap: Mapping[str, str], seen: tuple[str, ...]) -> str:
    lines = []
    for line in text.splitlines():
        if line.startswith(INCLUDE):
            name = swap.get(line[len(INCLUDE) :].strip(), line[len(INCLUDE) :].strip())
            if name in seen:
                raise ValueError(f"{name}.lua includes itself: {' -> '.join((*seen, name))}")
            included = _read(package, f"include/{name}")
            lines.append(_expand(package, included, swap, (*seen, name)))
        elif line.strip() and not line.lstrip().startswith("--"):
            lines.append(line)
    return "\n".join(lines)


def load(package: str, name: str, *, allow_oom: bool, swap: Mapping[str, str] | None = None) -> Script:
    """
    Load `<package>/lua/<name>.lua` with its includes.

    Args:
        package: The package whose `lua/` folder holds the script.
        name: Its name without the ending.
        allow_oom: May it write when the server is over `maxmemory`?
        swap: Includes to put in the place of others; tests swap the clock.

    Raises:
        ValueError: an include that includes itself.
    """
    text = (ALLOW_OOM if allow_oom else DENY_OOM) + _expand(
        package, _read(package, name), swap or {}, (name,)
    )
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
