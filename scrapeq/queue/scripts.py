"""The queue's scripts, loaded once."""

from __future__ import annotations

from functools import cache

from scrapeq.lua import Script, load

PACKAGE = "scrapeq.queue"
# A push may not go on when memory is full; everything that gives room back must.
NAMES = {
    "push": False,
    "pop": True,
    "settle": True,
    "acquire": True,
    "steer": True,
    "edit": True,
    "look": True,
    "sweep": True,
    "fsck": True,
    "purge": True,
}


@cache
def scripts(test_clock: bool = False) -> dict[str, Script]:
    """All scripts by name; with `test_clock` the time is read from a key that the test sets."""
    swap = {"clock": "clock_test"} if test_clock else {}
    return {name: load(PACKAGE, name, allow_oom=oom, swap=swap) for name, oom in NAMES.items()}
