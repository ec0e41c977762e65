"""
The lines of a seed file. One line is one task:

    https://api.example.com/issues?page=1             an address, asked for as it is
    {"owner": "octo", "repo": "tools"}                a seed's values, as under `seeds:` in the YAML
    {"url": "https://…", "priority": 5}               an address, and what else the task has
    {"seed": {"owner": "octo"}, "delay": "10m"}       a seed's values, and what else the task has

An object with `url` or `seed` may also have `resource`, `priority` (a number, or a time) and `delay` (`10m`, or
seconds), and nothing else. Blank lines and lines that begin with `#` are passed over.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from scrapeq.cli.options import read_duration, read_priority
from scrapeq.errors import UsageError

LINE_MAX = 1 << 20  # bytes, as a payload
READ_BYTES = 1 << 16
MEMBERS = ("url", "seed", "resource", "priority", "delay")
SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class SeedLine:
    """What one line asks for; None and empty = what the command says. `seed` is an address or a seed's values."""

    seed: str | Mapping[str, Any]
    resource: str = ""
    priority: float | None = None
    delay_s: float | None = None


Numbered = tuple[int, SeedLine | str]


class LineReader:
    """Lines out of bytes that come in pieces; each with its number (1-based) and what it asks for, or what is wrong."""

    def __init__(self) -> None:
        self._number = 0
        self._rest = b""
        self._too_long = False

    def feed(self, data: bytes) -> Iterator[Numbered]:
        """The lines that end in these bytes; those that ask for nothing are passed over."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for raw in whole:
            yield from self._line(raw)
        if len(self._rest) > LINE_MAX:
            self._rest, self._too_long = b"", True

    def end(self) -> Iterator[Numbered]:
        """The last line, if nothing ended it."""
        if self._rest or self._too_long:
            yield from self._line(self._rest)
            self._rest = b""

    def _line(self, raw: bytes) -> Iterator[Numbered]:
        self._number += 1
        too_long, self._too_long = self._too_long or len(raw) > LINE_MAX, False
        if too_long:
            yield self._number, f"longer than {LINE_MAX} bytes"
            return
        try:
            text = raw.decode("utf-8-sig" if self._number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            yield self._number, "no UTF-8 text"
            return
        if text and not text.startswith("#"):
            try:
                yield self._number, read_line(text)
            except UsageError as error:
                yield self._number, str(error)


async def read_batches(fd: int) -> AsyncIterator[list[Numbered]]:
    """
    The lines of an open file or pipe, as they come: a slow pipe's are handed over before the next is there.

    Raises:
        UsageError: it cannot be read.
    """
    reader = LineReader()
    try:
        while data := await _read(fd):
            yield list(reader.feed(data))
    except OSError as error:
        raise UsageError(f"the seeds cannot be read: {error.strerror}") from None
    yield list(reader.end())


async def _read(fd: int) -> bytes:
    """The next bytes; waits without blocking where the system can tell (a pipe, a terminal), so that Ctrl-C works."""
    import asyncio

    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(fd, readable.set)
    except OSError:  # a regular file: always readable
        return os.read(fd, READ_BYTES)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)
    return os.read(fd, READ_BYTES)


def read_line(text: str) -> SeedLine:
    """What one line asks for. Raises UsageError that says what is wrong with it."""
    if text.startswith("{"):
        return _object(text)
    return SeedLine(address(text))


def address(text: str) -> str:
    """The text, if it is an http(s) address. Raises UsageError."""
    shown = text if len(text) <= 80 else text[:79] + "…"
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError as error:
        raise UsageError(f"{shown!r} is no address: {error}") from None
    if parts.scheme.lower() not in SCHEMES or not host:
        raise UsageError(f"{shown!r} is neither an http(s) address nor a JSON object")
    if any(letter.isspace() for letter in text):
        raise UsageError(f"{shown!r} holds a space; write it as %20")
    return text


def _object(text: str) -> SeedLine:
    import orjson

    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"no JSON: {error.msg.partition(': line ')[0]} (column {error.colno})") from None
    if "url" not in found and "seed" not in found:
        return SeedLine(found)
    if "url" in found and "seed" in found:
        raise UsageError("has both url and seed; one of them says what to ask for")
    unknown = [name for name in found if name not in MEMBERS]
    if unknown:
        raise UsageError(
            f"unknown member {unknown[0]!r}; beside url or seed: resource, priority, delay "
            '(a seed\'s own url is written {"seed": {"url": …}})'
        )
    seed = found.get("seed")
    if "seed" in found and not isinstance(seed, dict):
        raise UsageError("seed is no JSON object")
    if "url" in found and not isinstance(found["url"], str):
        raise UsageError("url is no text")
    resource = found.get("resource", "")
    if not isinstance(resource, str):
        raise UsageError("resource is no text")
    return SeedLine(
        seed if isinstance(seed, dict) else address(found["url"]),
        resource,
        _priority(found.get("priority")),
        _delay(found.get("delay")),
    )


def _priority(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if isinstance(value, str):
        return read_priority(value, "priority")
    raise UsageError(f"priority: {value!r} is no number and no time")


def _delay(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        return read_duration(value, "delay")
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if value < 0:
            raise UsageError(f"delay: {value} is negative; it must be 0 or more seconds")
        return float(value)
    raise UsageError(f"delay: {value!r} is no duration")
