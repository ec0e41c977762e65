"""Checks new tasks and packs them into the block that the scripts read. Seconds become microseconds here."""

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
GROUP_MAX = 255  # bytes of the name of a group or of a limit instance
CREDENTIAL_MAX = 32  # bytes of a credential's name, which a lease stores behind the name of its lane
DIGEST_SIZE = 9  # bytes: 2^36 identities before the first likely collision
DELAY_MAX_S = 100 * 366 * 86_400.0  # a century: more microseconds than that are not exact in a double
_PUSH_HEAD = struct.Struct(">ddHHBB")
_SCHEDULED_RUN = struct.Struct(">I")
_PAGES = "\0walk "  # a prefix that the key of a request never has


def digest(key: str) -> bytes:
    """Return the nine bytes by which deduplication remembers a key."""
    return hashlib.blake2b(key.encode(), digest_size=DIGEST_SIZE).digest()


def duration_us(value_s: float, what: str) -> float:
    """Convert seconds to whole microseconds. Raises UsageError, which names the value by `what`."""
    if value_s == 0:
        return 0.0
    if not math.isfinite(value_s) or value_s < 0:
        raise UsageError(f"{what}: expected 0 or more seconds, got {value_s!r}")
    return float(round(min(value_s, DELAY_MAX_S) * US))


def payload_of(value: Any) -> bytes:
    """Serialize a payload as JSON. Raises UsageError if that fails, or if it is larger than 1 MiB."""
    try:
        data = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"payload: cannot be serialized as JSON: {error}") from None
    if len(data) > PAYLOAD_MAX:
        raise UsageError(f"payload: {len(data):,} bytes of JSON; the maximum is {PAYLOAD_MAX:,} (1 MiB)")
    return data


class Block:
    """New tasks as the scripts read them: each group once, a packed header per task, the payloads."""

    def __init__(self) -> None:
        self.groups: dict[Group, int] = {}
        self.lanes: dict[str, tuple[str, ...]] = {}
        self.header = bytearray()
        self.payloads: list[bytes] = []
        self.size = 0

    def group(self, group: Group) -> int:
        """Return the group's index in the block, from 1; add the group if it is new."""
        index = self.groups.get(group)
        if index is None:
            if len(group.name.encode()) > GROUP_MAX:
                raise UsageError(f"group: {group.name[:40]!r}… is longer than {GROUP_MAX} bytes")
            if len(group.private.encode()) > GROUP_MAX:
                raise UsageError(f"limit: {group.private[:40]!r}… is longer than {GROUP_MAX} bytes")
            index = self.groups[group] = len(self.groups) + 1
        return index

    def add(self, task: NewTask, dedup: Dedup, owner: int = 0) -> None:
        """Add a task; `owner`: the index of the entry that must succeed, from 1; 0 = none."""
        payload = payload_of(task.payload)
        key = digest(task.key) if task.key else b""
        mode = 1 if dedup == "raise_priority" and key else 0
        if task.scheduled_run and key:
            mode = 2
            key += _SCHEDULED_RUN.pack(task.scheduled_run)
            if task.page_sequence:
                key += digest(_PAGES + task.page_sequence)
        delay = duration_us(task.delay_s, "delay")
        self.header += _PUSH_HEAD.pack(task.priority, delay, self.group(task.group), owner, mode, len(key))
        self.header += key
        self.payloads.append(payload)
        self.size += len(payload)

    def spec(self) -> bytes:
        """Return the groups and their lanes as JSON."""
        if not self.groups:
            return b""
        if len(self.groups) == 1 and self.groups.keys() == _PLAIN:
            return _PLAIN_SPEC
        groups = []
        lanes = {}
        for group in self.groups:
            limits, private = lane_and_private(group)
            entries = lane_entries(limits, group)
            lane = lane_name(entries)
            if lane:
                lanes[lane] = entries
            groups.append([group.name, lane, private])
        return orjson.dumps([lanes, groups])


_WEIGHT_MARK = "\2"
_PLAIN = {Group(): 1}.keys()
_PLAIN_SPEC = b'[{},[["","",""]]]'


def lane_and_private(group: Group) -> tuple[tuple[str, ...], str]:
    """
    Split a group's limits as the scripts store them: those of its lane, and the private one.

    The instance of a pool cannot be private, since it stands for several instances.
    """
    if is_pooled(group.private):
        return (*group.limits, group.private), ""
    return group.limits, group.private


def lane_entries(limits: Sequence[str], group: Group) -> tuple[str, ...]:
    """Return a lane's limits as the scripts store them: each with the weight of a task there if that is not 1."""
    weights = {name: weight for name, weight in group.weights if weight != 1}
    return tuple(f"{name}{_WEIGHT_MARK}{weights[name]!r}" if name in weights else name for name in limits)


def lane_name(limits: Sequence[str]) -> str:
    """Name the lane of a set of entries: sorted if short, else their digest; with a `*` in front if one is a pool's."""
    text = "&".join(sorted(limits))
    pooled = any(is_pooled(limit) for limit in limits)
    if pooled:
        text = "*" + text
    if len(text) <= (GROUP_MAX - CREDENTIAL_MAX - 1 if pooled else GROUP_MAX):
        return text
    return ("*" if pooled else "") + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
