"""
Builds one library of Redis functions from the queue's scripts.

Redis runs a script from its first line at each call, so it creates all functions of all includes each time. The
functions of a library are created once, when it is loaded. Both forms have one source. What a script and its includes
declare at the outer level, without indentation, becomes the following.

- A function, and a name in capitals with a literal value, is created when the library is loaded: those of an include
  once for all scripts.
- Any other `local` that a function uses is declared once and assigned at the start of each call, so a call never sees
  what an earlier one left behind, even if that one failed.
- All other statements are the body of the registered function, in their order.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

from redis.exceptions import ResponseError

from scrapeq.lua import Line, expand, fold, take_constants
from scrapeq.queue.scripts import ALLOWS_OOM, PACKAGE, swap_of

NAME_PREFIX = "scrapeq_"
_HASH_CHARS = 16
_NAMES_PER_LINE = 20
_Statement = tuple[str, list[str]]  # the include that it is from, empty for the script itself; its lines
_ANY_WORD = re.compile(r"\w+")
_CLOSING = re.compile(r"(?:end|else|elseif|until)\b|[})\]]")  # a line at the outer level that ends a block
_FUNCTION = re.compile(r"local function (\w+)")
_LOCAL = re.compile(r"local (\w+(?:, \w+)*)(?: = (.+))?")
_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'")
_COMMENT = re.compile(r"\s+--\s.*")
_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*\b(?!\s*=[^=])")  # a name that is read, not the key of a table


@dataclass(frozen=True, slots=True)
class Library:
    """
    A library of functions.

    Args:
        name: Its name, with a hash of its text: another version is another library.
        text: The text for FUNCTION LOAD.
    """

    name: str
    text: str

    def function(self, script: str) -> str:
        """Return the name of the function that does what a script does."""
        return f"{self.name}_{script}"


@cache
def library(test_clock: bool = False) -> Library:
    """
    Return the library of all scripts of the queue.

    Args:
        test_clock: As in `scripts`.

    Raises:
        ValueError: a script and its includes declare a name twice, or a constant has two values.
    """
    scripts = _read_scripts(swap_of(test_clock))
    parts = [part for script in scripts.values() for part in script]
    words = {
        word for _, part in parts if _FUNCTION.match(part[0]) for word in _ANY_WORD.findall("\n".join(part))
    }
    shared = _Scope(words)
    blocks: dict[str, list[str]] = {}
    known: set[str] = set()  # the includes of the scripts so far
    for name, script in scripts.items():
        own = _Scope(words)
        body: list[str] = []
        for include, statement in script:
            body += (shared if include else own).add(statement, is_new=include not in known)
        names = [word for _, statement in script for word in _names_in(statement)]
        if len(set(names)) < len(names):
            twice = sorted({word for word in names if names.count(word) > 1})
            raise ValueError(
                f"{name}.lua and its includes declare twice at the outer level: {', '.join(twice)}"
            )
        blocks[name] = [
            *own.lines(),
            "local function run(keys, argv)",
            "KEYS, ARGV = keys, argv",
            *body,
            "end",
        ]
        known |= {include for include, _ in script if include}
    text = "\n".join([*shared.lines(), *(line for block in blocks.values() for line in block)])
    name = NAME_PREFIX + hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]
    functions = (
        line
        for script_name, block in blocks.items()
        for line in ("do", *block, _registration(f"{name}_{script_name}", ALLOWS_OOM[script_name]), "end")
    )
    return Library(name, "\n".join([f"#!lua name={name}", "local KEYS, ARGV", *shared.lines(), *functions]))


def _read_scripts(swap: Mapping[str, str]) -> dict[str, list[_Statement]]:
    """Return the statements of every script at its outer level, with the constants of each replaced by their values."""
    shared: dict[str, str] = {}
    folded: dict[Line, str] = {}  # most lines are in several scripts
    scripts = {}
    for name in ALLOWS_OOM:
        lines = expand(PACKAGE, name, swap)
        included = take_constants((line for line in lines if line[0]), shared)
        constants = dict(shared)
        own = take_constants((line for line in lines if not line[0]), constants)
        remaining = {*included, *own}
        for line in included:
            if line not in folded:
                folded[line] = fold(line[1], shared)
        scripts[name] = list(
            _statements(
                (line[0], folded[line] if line[0] else fold(line[1], constants))
                for line in lines
                if line in remaining
            )
        )
    return scripts


async def remove_other_libraries(redis: Any) -> None:
    """
    Delete the libraries of other versions of scrapeq, unless the server does not let this user do so.

    A process of another version that still runs loads its library again at its next call.

    Args:
        redis: An asyncio client with `decode_responses=False`.
    """
    with contextlib.suppress(ResponseError):
        for entry in await redis.function_list(f"{NAME_PREFIX}*"):
            name = _name_in(entry)
            if name != library().name:
                await redis.function_delete(name)


def _name_in(entry: Any) -> str:
    """Return the name in an entry of FUNCTION LIST: a map, as a dictionary or as a list of keys and values."""
    fields = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=False))
    return bytes(fields[b"library_name"]).decode()


def _registration(function: str, allow_oom: bool) -> str:
    flags = "flags={'allow-oom'}, " if allow_oom else ""
    return f"redis.register_function{{function_name='{function}', {flags}callback=run}}"


class _Scope:
    """
    The declarations of the includes, or of one script.

    Args:
        used: The words in all functions.
    """

    def __init__(self, used: Set[str]) -> None:
        self._used = used
        self._constants: list[str] = []
        self._state: list[str] = []
        self._functions: list[str] = []

    def lines(self) -> list[str]:
        """Return the lines that declare everything."""
        state = [
            f"local {', '.join(self._state[start : start + _NAMES_PER_LINE])}"
            for start in range(0, len(self._state), _NAMES_PER_LINE)
        ]
        return [*self._constants, *state, *self._functions]

    def add(self, statement: Sequence[str], *, is_new: bool) -> list[str]:
        """Add a statement, whose names are declared if it is new; return what each call has to run of it."""
        if _FUNCTION.match(statement[0]):
            self._functions += statement if is_new else []
            return []
        found = _local(statement)
        if found is None:
            return list(statement)
        names, value = found[1].split(", "), found[2]
        if _is_constant(names, [value or "", *statement[1:]]):
            self._constants += statement if is_new else []
            return []
        if self._used.isdisjoint(names):
            return list(statement)  # only the body uses it
        self._state += names if is_new else []
        return [f"{found[1]} = {value or 'nil'}", *statement[1:]]


def _local(statement: Sequence[str]) -> re.Match[str] | None:
    return _LOCAL.fullmatch(_COMMENT.sub("", statement[0]) if len(statement) == 1 else statement[0])


def _names_in(statement: Sequence[str]) -> list[str]:
    """Return the names that a statement declares."""
    if function := _FUNCTION.match(statement[0]):
        return [function[1]]
    found = _local(statement)
    return found[1].split(", ") if found else []


def _statements(lines: Iterable[Line]) -> Iterator[_Statement]:
    """Yield the statements of the outer level, each with the include that it is from."""
    include, statement = "", list[str]()
    for origin, line in lines:
        if statement and not line[0].isspace() and not _CLOSING.match(line):
            yield include, statement
            statement = []
        include = origin
        statement.append(line)
    if statement:
        yield include, statement


def _is_constant(names: Sequence[str], value: Sequence[str]) -> bool:
    """Return whether these are names in capitals with a literal value; no library exists while one is loaded."""
    if not all(_CAPITALS.fullmatch(name) for name in names) or not value[0]:
        return False
    return not any(_WORD.search(_STRING.sub("", _COMMENT.sub("", line))) for line in value)
