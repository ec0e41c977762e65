"""Read what the scripts keep in packed form: a group's place, a task's meta, a limit's state. For tests."""

from __future__ import annotations

import struct
from dataclasses import dataclass

PAD = b"\0"  # a field that only keeps a hash from being a listpack
_META = struct.Struct(">IIIdBBddB")
IN_FLIGHT = 2  # the place of that weight in a limit's state


@dataclass(frozen=True, slots=True)
class Meta:
    """A task's meta, as far as tests look at it."""

    attempts: int
    expiries: int
    releases: int
    granted_us: int
    answered: bool
    weight: float
    token: str
    lane: str
    private: str


def read_group(raw: bytes | None) -> tuple[str, str]:
    """A group's lane and its private limit."""
    lane, _, private = (raw or b"\0").partition(b"\0")
    return lane.decode(), private.decode()


def read_lane(raw: bytes | None) -> dict[str, float]:
    """A lane's limits, with what a task weighs there."""
    entries = [entry.decode().partition("\2") for entry in (raw or b"").split(b"\0") if entry]
    return {name: float(weight or 1) for name, _, weight in entries}


def read_limit(raw: bytes) -> list[float]:
    """A limit's state, field by field."""
    return list(struct.unpack(f">{len(raw) // 8}d", raw))


def read_meta(raw: bytes) -> Meta:
    """A task's meta. Raises struct.error or IndexError when it is cut short."""
    attempts, expiries, releases, granted, answered, _, weight, _, _ = _META.unpack_from(raw)
    texts, at = [], _META.size
    for _ in range(3):
        length = raw[at]
        texts.append(raw[at + 1 : at + 1 + length].decode())
        at += 1 + length
    token, lane, private = texts
    return Meta(attempts, expiries, releases, int(granted), answered == 1, weight, token, lane, private)
