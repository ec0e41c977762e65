"""Read what the scripts pack with cmsgpack: arrays, numbers and strings; nothing else occurs."""

from __future__ import annotations

import struct
from typing import Any

_FIXED = {  # MessagePack's type byte -> how its value is packed
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_STRING_LENGTH = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAY_LENGTH = {0xDC: 2, 0xDD: 4}


def unpack(data: bytes) -> list[Any]:
    """
    The array in `data`; strings that are no UTF-8 keep their bytes as surrogates.

    Raises:
        ValueError: it is no array of numbers, strings and arrays.
    """
    try:
        value, end = _value(data, 0)
    except (IndexError, struct.error) as error:
        raise ValueError(f"cut short: {data[:40]!r}") from error
    if not isinstance(value, list) or end != len(data):
        raise ValueError(f"no packed array: {data[:40]!r}")
    return value


def _value(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    if kind <= 0x7F:
        return kind, at
    if kind >= 0xE0:
        return kind - 0x100, at
    if kind in (0xC2, 0xC3):
        return kind == 0xC3, at
    if 0x90 <= kind <= 0x9F or kind in _ARRAY_LENGTH or kind == 0x80:  # 0x80: Lua's empty table
        size = _ARRAY_LENGTH.get(kind, 0)
        count = int.from_bytes(data[at : at + size], "big") if size else kind & 0x0F
        at += size
        found = []
        for _ in range(count):
            value, at = _value(data, at)
            found.append(value)
        return found, at
    if 0xA0 <= kind <= 0xBF or kind in _STRING_LENGTH:
        size = _STRING_LENGTH.get(kind, 0)
        count = int.from_bytes(data[at : at + size], "big") if size else kind & 0x1F
        at += size
        if at + count > len(data):
            raise IndexError
        return data[at : at + count].decode("utf-8", "surrogateescape"), at + count
    fixed = _FIXED.get(kind)
    if fixed is None:
        raise ValueError(f"unknown type byte {kind:#x}")
    return fixed.unpack_from(data, at)[0], at + fixed.size
