"""
Read the lines of a seed file. One line is one task:

    https://api.example.com/issues?page=1             a URL, requested as it is
    {"owner": "octo", "repo": "tools"}                the values of a seed, as under `seeds:` in the YAML
    {"url": "https://…", "priority": 5}               a URL, with attributes of the task
    {"seed": {"owner": "octo"}, "delay": "10m"}       the values of a seed, with attributes of the task

An object with `url` or `seed` may also have `resource`, `priority` (a number or a time) and `delay` (`10m`, or
seconds), and nothing else. Blank lines and lines that start with `#` are ignored.
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
URL_SHOWN = 80  # characters of a URL in an error
KEYS = ("url", "seed", "resource", "priority", "delay")
SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class SeedLine:
    """
    The task that one line describes.

    Attributes:
        seed: A URL, or the values of a seed.
        resource, priority, delay_s: Empty or None = as the command's options say.
    """

    seed: str | Mapping[str, Any]
    resource: str = ""
    priority: float | None = None
    delay_s: float | None = None


NumberedLine = tuple[int, SeedLine | str]
"""A line's number (1-based) with its task, or with the text of what is wrong with it."""


class LineReader:
    """Splits bytes that arrive in pieces into the lines of a seed file."""

    def __init__(self) -> None:
        self._number = 0
        self._rest = b""
        self._is_too_long = False

    def feed(self, data: bytes) -> Iterator[NumberedLine]:
        """Yield the lines that end in these bytes, except blank lines and comments."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self._read(line)
        if len(self._rest) > LINE_MAX:
            self._rest, self._is_too_long = b"", True

    def end(self) -> Iterator[NumberedLine]:
        """Yield the last line if no newline ended it."""
        if self._rest or self._is_too_long:
            yield from self._read(self._rest)
            self._rest = b""

    def _read(self, line: bytes) -> Iterator[NumberedLine]:
        self._number += 1
        is_too_long, self._is_too_long = self._is_too_long or len(line) > LINE_MAX, False
        if is_too_long:
            yield self._number, f"longer than {LINE_MAX} bytes"
            return
        try:
            text = line.decode("utf-8-sig" if self._number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            yield self._number, "not UTF-8 text"
            return
        if text and not text.startswith("#"):
            try:
                yield self._number, read_line(text)
            except UsageError as error:
                yield self._number, str(error)


async def read_batches(fd: int) -> AsyncIterator[list[NumberedLine]]:
    """
    Yield the lines of an open file or pipe as they arrive; a slow pipe's lines do not wait for later ones.

    Raises:
        UsageError: The file cannot be read.
    """
    reader = LineReader()
    try:
        while data := await _read_bytes(fd):
            yield list(reader.feed(data))
    except OSError as error:
        raise UsageError(f"the seeds cannot be read: {error.strerror}") from None
    yield list(reader.end())


async def _read_bytes(fd: int) -> bytes:
    """Return the next bytes. For a pipe or terminal it waits in the event loop, so that Ctrl-C works."""
    import asyncio

    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(fd, readable.set)
    except OSError:  # the loop cannot watch a regular file, which is always readable
        return os.read(fd, READ_BYTES)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)
    return os.read(fd, READ_BYTES)


def read_line(text: str) -> SeedLine:
    """Return the task that a line describes. Raises UsageError that says what is wrong with the line."""
    if text.startswith("{"):
        return _read_object(text)
    return SeedLine(check_url(text))


def check_url(text: str) -> str:
    """Return the text if it is an http(s) URL. Raises UsageError."""
    shown = text if len(text) <= URL_SHOWN else text[: URL_SHOWN - 1] + "…"
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError as error:
        raise UsageError(f"{shown!r} is not a URL: {error}") from None
    if parts.scheme.lower() not in SCHEMES or not host:
        raise UsageError(f"{shown!r} is neither an http(s) URL nor a JSON object")
    if any(letter.isspace() for letter in text):
        raise UsageError(f"{shown!r} contains a space; write it as %20")
    return text


def _read_object(text: str) -> SeedLine:
    import orjson

    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(
            f"invalid JSON: {error.msg.partition(': line ')[0]} (column {error.colno})"
        ) from None
    if "url" not in fields and "seed" not in fields:
        return SeedLine(fields)
    if "url" in fields and "seed" in fields:
        raise UsageError("has both url and seed; give one of them")
    unknown = [name for name in fields if name not in KEYS]
    if unknown:
        raise UsageError(
            f"unknown key {unknown[0]!r}; beside url or seed only resource, priority and delay are allowed "
            '(write a seed that has a value named url as {"seed": {"url": …}})'
        )
    seed = fields.get("seed")
    if "seed" in fields and not isinstance(seed, dict):
        raise UsageError("seed must be a JSON object")
    if "url" in fields and not isinstance(fields["url"], str):
        raise UsageError("url must be a string")
    resource = fields.get("resource", "")
    if not isinstance(resource, str):
        raise UsageError("resource must be a string")
    return SeedLine(
        seed if isinstance(seed, dict) else check_url(fields["url"]),
        resource,
        _priority(fields.get("priority")),
        _delay(fields.get("delay")),
    )


def _priority(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if isinstance(value, str):
        return read_priority(value, "priority")
    raise UsageError(f"priority: {value!r} is not a number or a time")


def _delay(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        return read_duration(value, "delay")
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if value < 0:
            raise UsageError(f"delay: {value} is negative; it must be 0 or more seconds")
        return float(value)
    raise UsageError(f"delay: {value!r} is not a duration")
