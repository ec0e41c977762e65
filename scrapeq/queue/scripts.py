"""The queue's Lua scripts, loaded once per process."""

from __future__ import annotations

from functools import cache

from scrapeq.lua import Script, load

PACKAGE = "scrapeq.queue"
# Whether a script may run when the server is out of memory: a push must not, whatever frees memory must.
ALLOWS_OOM = {
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
    """Return all scripts by name. With `test_clock` they read the time from a key that the test sets."""
    swap = swap_of(test_clock)
    return {name: load(PACKAGE, name, allow_oom=oom, swap=swap) for name, oom in ALLOWS_OOM.items()}


def swap_of(test_clock: bool) -> dict[str, str]:
    """Return the include to load in place of another one."""
    return {"clock": "clock_test"} if test_clock else {}
