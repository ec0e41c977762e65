"""Decoders of packed values that the scripts store: a group's lane, a task's metadata, a limit's state."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_META = struct.Struct(">IIIdBBddB")
IN_FLIGHT = 2  # index in a limit's state


@dataclass(frozen=True, slots=True)
class Meta:
    """The metadata of a task that tests check."""

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
    """Return a group's lane and its private limit."""
    lane, _, private = (raw or b"\0").partition(b"\0")
    return lane.decode(), private.decode()


def read_lane(raw: bytes | None) -> dict[str, float]:
    """Return a lane's limits with the weight of a task in each."""
    entries = [entry.decode().partition("\2") for entry in (raw or b"").split(b"\0") if entry]
    return {name: float(weight or 1) for name, _, weight in entries}


def read_limit(raw: bytes) -> list[float]:
    """Return the fields of a limit's state."""
    return list(struct.unpack(f">{len(raw) // 8}d", raw))


def read_meta(raw: bytes) -> Meta:
    """Return a task's metadata. Raises struct.error or IndexError if it is truncated."""
    attempts, expiries, releases, granted, answered, _, weight, _, _ = _META.unpack_from(raw)
    texts, at = [], _META.size
    for _ in range(3):
        length = raw[at]
        texts.append(raw[at + 1 : at + 1 + length].decode())
        at += 1 + length
    token, lane, private = texts
    return Meta(attempts, expiries, releases, int(granted), answered == 1, weight, token, lane, private)
