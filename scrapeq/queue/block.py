"""New tasks as the scripts read them: checked, packed, in one block. Seconds become microseconds here."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from typing import Any

import orjson

from scrapeq.errors import UsageError
from scrapeq.limit import is_pooled
from scrapeq.task import Dedup, Group, NewTask

US = 1_000_000
PAYLOAD_MAX = 1 << 20  # bytes
GROUP_MAX = 255  # bytes
CREDENTIAL_MAX = 32  # bytes of the name of a pool's member, which a lease keeps behind its lane's
DIGEST_SIZE = 9  # bytes: 2^36 identities before the first likely collision
DELAY_MAX_S = 100 * 366 * 86_400.0  # a century; beyond it microseconds would leave a double's exact range
_PUSH_HEAD = struct.Struct(">ddHHBB")
_OCCURRENCE = struct.Struct(">I")
_WALK = "\0walk "  # no request's identity begins so


def digest(key: str) -> bytes:
    """The identity that is remembered: nine bytes."""
    return hashlib.blake2b(key.encode(), digest_size=DIGEST_SIZE).digest()


def duration_us(value_s: float, what: str) -> float:
    """Seconds as whole microseconds. Raises UsageError naming `what`."""
    if value_s == 0:
        return 0.0
    if not math.isfinite(value_s) or value_s < 0:
        raise UsageError(f"{what}: {value_s!r} is no duration; it must be 0 or more seconds")
    return float(round(min(value_s, DELAY_MAX_S) * US))


def payload_of(value: Any) -> bytes:
    """A payload as JSON. Raises UsageError when it is none, or too large."""
    try:
        data = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"payload: not JSON: {error}") from None
    if len(data) > PAYLOAD_MAX:
        raise UsageError(f"payload: {len(data)} bytes; at most {PAYLOAD_MAX} (1 MiB)")
    return data


class Block:
    """New tasks as the scripts read them: groups once, a packed header, the payloads."""

    def __init__(self) -> None:
        self.groups: dict[Group, int] = {}
        self.lanes: dict[str, tuple[str, ...]] = {}
        self.header = bytearray()
        self.payloads: list[bytes] = []
        self.size = 0

    def group(self, group: Group) -> int:
        """The group's place in the block."""
        index = self.groups.get(group)
        if index is None:
            if len(group.name.encode()) > GROUP_MAX:
                raise UsageError(f"group: {group.name[:40]!r}… is longer than {GROUP_MAX} bytes")
            if len(group.private.encode()) > GROUP_MAX:
                raise UsageError(f"limit: {group.private[:40]!r}… is longer than {GROUP_MAX} bytes")
            index = self.groups[group] = len(self.groups) + 1
        return index

    def add(self, task: NewTask, dedup: Dedup, owner: int = 0) -> None:
        """One more task; `owner`: the entry whose success it needs."""
        payload = payload_of(task.payload)
        key = digest(task.key) if task.key else b""
        mode = 1 if dedup == "raise_priority" and key else 0
        if task.occurrence and key:
            mode = 2
            key += _OCCURRENCE.pack(task.occurrence) + (digest(_WALK + task.walk) if task.walk else b"")
        delay = duration_us(task.delay_s, "delay")
        self.header += _PUSH_HEAD.pack(task.priority, delay, self.group(task.group), owner, mode, len(key))
        self.header += key
        self.payloads.append(payload)
        self.size += len(payload)

    def spec(self) -> bytes:
        """The groups and lanes, as JSON."""
        if not self.groups:
            return b""
        if len(self.groups) == 1 and self.groups.keys() == _PLAIN:
            return _PLAIN_SPEC
        groups = []
        lanes = {}
        for group in self.groups:
            limits, private = placed(group)
            entries = lane_entries(limits, group)
            lane = lane_name(entries)
            if lane:
                lanes[lane] = entries
            groups.append([group.name, lane, private])
        return orjson.dumps([lanes, groups])


_WEIGHS = "\2"
_PLAIN = {Group(): 1}.keys()
_PLAIN_SPEC = b'[{},[["","",""]]]'


def placed(group: Group) -> tuple[tuple[str, ...], str]:
    """A group's limits where the scripts want them: the lane's, and the private one, which is never a pool's."""
    if is_pooled(group.private):
        return (*group.limits, group.private), ""
    return group.limits, group.private


def lane_entries(limits: Sequence[str], group: Group) -> tuple[str, ...]:
    """A lane's limits as the scripts keep them: with what a task of the group weighs there, if it is not 1."""
    weights = {name: weight for name, weight in group.weights if weight != 1}
    return tuple(f"{name}{_WEIGHS}{weights[name]!r}" if name in weights else name for name in limits)


def lane_name(limits: Sequence[str]) -> str:
    """The lane of a set of entries: sorted if short, else their digest; behind a `*` if one is a pool's."""
    text = "&".join(sorted(limits))
    pooled = any(is_pooled(limit) for limit in limits)
    if pooled:
        text = "*" + text
    if len(text) <= (GROUP_MAX - CREDENTIAL_MAX - 1 if pooled else GROUP_MAX):
        return text
    return ("*" if pooled else "") + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
