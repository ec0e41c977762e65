"""
The protocol between a fetcher and the process that reads a page for it: a length (8 bytes), then that much JSON.

A frame is `[kind, value]`: `part` (a part of the page), `end` (the warnings given so far) or `error` (the name of the
error's class, its message, whether the body was cut off).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import IO, Any

import orjson

from scrapeq import errors
from scrapeq.errors import BrokenBody, ExtractError, ScrapeqError
from scrapeq.extract.compiled_resource import WarningsGiven
from scrapeq.protocols import Extraction, IncrementalStart, Item
from scrapeq.resource import TaskBuilder
from scrapeq.resource.identity import Ancestry
from scrapeq.resource.task_builder import ChildPage
from scrapeq.task import Group, NewTask

FRAME_BYTES = 1_000_000
"""Size above which the results of a page are divided, so that the loop reads none for long."""

MAX_VALUES = 100_000
"""The most lists and objects, and tenths of other values, in a part that cannot be divided any more."""

LENGTH = struct.Struct(">Q")

Warned = Mapping[str, WarningsGiven]


class FrameWriter:
    """Writes frames into a pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def part(self, chunk: Extraction) -> None:
        """
        Write a chunk, divided if it is larger than FRAME_BYTES; what must come last is in the last part.

        Raises:
            ExtractError: a single record is so large that the loop would take long to read it.
        """
        data = orjson.dumps(["part", _packed_chunk(chunk)])
        items, follow_ups = len(chunk.items) // 2, len(chunk.follow_ups) // 2
        if len(data) <= FRAME_BYTES or not items + follow_ups:
            if data.count(b"{") + data.count(b"[") + data.count(b",") // 10 > MAX_VALUES:
                raise ExtractError(
                    f"the page is given up: a single record has more than {MAX_VALUES:,} lists and objects inside; "
                    "set data_selector, or `parent` with `each`, to the list of records"
                )
            self._write(data)
            return
        self.part(Extraction(chunk.items[:items], chunk.follow_ups[:follow_ups]))
        self.part(replace(chunk, items=chunk.items[items:], follow_ups=chunk.follow_ups[follow_ups:]))

    def end(self, warned: Warned) -> None:
        """Write that the page is complete."""
        state = {
            name: [one.has_records, one.has_keyless_records, list(one.topics)] for name, one in warned.items()
        }
        self._write(orjson.dumps(["end", state]))

    def error(self, error: ScrapeqError) -> None:
        """Write why the page cannot be read."""
        is_cut_off = isinstance(error, BrokenBody) and error.is_cut_off
        self._write(orjson.dumps(["error", [type(error).__name__, str(error), is_cut_off]]))

    def _write(self, data: bytes) -> None:
        for piece in (LENGTH.pack(len(data)), data):
            rest = memoryview(piece)
            while rest:
                rest = rest[self._pipe.write(rest) :]


def unpack(data: bytes, builder: TaskBuilder) -> Extraction | Warned | ScrapeqError:
    """Return the content of a frame: a part of the page, the warnings after the last part, or an error."""
    kind, value = orjson.loads(data)
    if kind == "part":
        return _unpacked_chunk(value, builder)
    if kind == "end":
        return {name: WarningsGiven(one[0], one[1], frozenset(one[2])) for name, one in value.items()}
    name, message, is_cut_off = value
    error_class = getattr(errors, name, ExtractError)
    error: ScrapeqError = error_class(message)
    if isinstance(error, BrokenBody):
        error.is_cut_off = is_cut_off
    return error


def _values(one: Any) -> list[Any]:
    """Return the values of a dataclass in the order of its fields."""
    return [getattr(one, field.name) for field in fields(one)]


def _packed_chunk(chunk: Extraction) -> dict[str, Any]:
    packed = dict(zip((field.name for field in fields(chunk)), _values(chunk), strict=True))
    packed["items"] = [_values(item) for item in chunk.items]
    packed["follow_ups"] = [_packed_task(task) for task in chunk.follow_ups]
    packed["next_page"] = chunk.next_page and _packed_task(chunk.next_page)
    packed["starts"] = [_packed_start(start.build) for start in chunk.starts]
    return packed


def _unpacked_chunk(packed: dict[str, Any], builder: TaskBuilder) -> Extraction:
    chunk = Extraction(**packed)
    chunk.items = [Item(*values) for values in packed["items"]]
    chunk.follow_ups = [_task(values) for values in packed["follow_ups"]]
    chunk.next_page = packed["next_page"] and _task(packed["next_page"])
    chunk.starts = [_start(values, builder) for values in packed["starts"]]
    if chunk.cursor_state is not None:
        key, state = chunk.cursor_state
        chunk.cursor_state = key, state
    return chunk


def _packed_task(task: NewTask) -> dict[str, Any]:
    packed = dict(zip((field.name for field in fields(task)), _values(task), strict=True))
    packed["group"] = _values(task.group)
    return packed


def _task(packed: dict[str, Any]) -> NewTask:
    name, limits, private, weights = packed["group"]
    group = Group(name, tuple(limits), private, tuple((limit, weight) for limit, weight in weights))
    return NewTask(**{**packed, "group": group})


def _packed_start(page: Any) -> list[Any]:
    assert isinstance(page, ChildPage)
    above = page.ancestry
    # The key of a cursor state depends on whether the parent is the record itself or an element of it.
    is_record = above.edge is not None and above.parent is above.ancestors.get(above.edge)
    ancestry = above._replace(parent=None) if is_record else above
    return [page.resource.name, list(ancestry), is_record, page.depth, page.priority, page.now_s]


def _start(packed: list[Any], builder: TaskBuilder) -> IncrementalStart:
    name, values, is_record, depth, priority, now_s = packed
    ancestry = Ancestry(*values)
    if is_record:
        ancestry = ancestry._replace(parent=ancestry.ancestors.get(ancestry.edge or ""))
    return builder.start_of(ChildPage(builder, builder.resource(name), ancestry, depth, priority, now_s))
