"""Recognizes pages that bring no new record, with a bounded sample of the records seen before. Pure."""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from zlib import crc32

from scrapeq.resource.payload import SeenSample

SAMPLE_SIZE = 256
"""The most records that the sample keeps; up to this number it is exact."""
EVIDENCE = SAMPLE_SIZE // 2
"""How many records of the sample must come back in a row, if the sample does not have all records."""


class SeenRecords:
    """
    The records of the earlier pages of a page sequence, and of the page at hand.

    The sample has all records whose hash ends in `level` zero bits. When it grows too large, the level rises, which
    halves it. A sampled record is thus always recognized, whichever page, process or run it comes from, and the state
    that the next page gets is about 1.5 KB at most.

    Args:
        state: What the previous page handed over.
        has_keys: Records are known by their primary key, not by their content. Equal contents on one page are
            different records, such as measurements; such a page is compared as a whole.
    """

    def __init__(self, state: SeenSample | None, *, has_keys: bool) -> None:
        self._level = state["level"] if state else 0
        self._earlier = _unpacked(state["hashes"]) if state else set()
        self._hits = state["hits"] if state else 0
        self._has_keys = has_keys
        self._current: set[int] = set()
        self._page = 0
        self._has_equal = False

    def add(self, record: bytes) -> None:
        """Add a record of the page at hand: its key, or its content."""
        value = crc32(record)
        self._page = crc32(record, self._page)
        if not value & ((1 << self._level) - 1):
            self._has_equal = self._has_equal or value in self._current
            self._current.add(value)
            if len(self._current) > 4 * SAMPLE_SIZE:
                self._raise_level()

    def _raise_level(self) -> None:
        self._level += 1
        mask = (1 << self._level) - 1
        self._earlier = {value for value in self._earlier if not value & mask}
        self._current = {value for value in self._current if not value & mask}

    @property
    def _records(self) -> set[int]:
        return {self._page} if self._has_equal and not self._has_keys else self._current

    @property
    def is_exact(self) -> bool:
        """Whether the sample has all records."""
        return not self._level

    def has_new(self) -> bool | None:
        """Return whether the page at hand has a new record; None if that is not certain enough."""
        if not self._records <= self._earlier:
            return True
        is_certain = bool(self._records) and (not self._level or self._hits + len(self._records) >= EVIDENCE)
        return False if is_certain else None

    def state(self) -> SeenSample:
        """Return what the next page gets."""
        hits = self._hits + len(self._records) if self._records <= self._earlier else 0
        known = self._earlier | self._records
        while len(known) > SAMPLE_SIZE:
            self._raise_level()
            mask = (1 << self._level) - 1
            known = {value for value in known if not value & mask}
        values = sorted(known)
        packed = struct.pack(f"<{len(values)}I", *values)
        return {"level": self._level, "hashes": b64encode(packed).decode(), "hits": hits}


def _unpacked(text: str) -> set[int]:
    return {value for (value,) in struct.iter_unpack("<I", b64decode(text))}
