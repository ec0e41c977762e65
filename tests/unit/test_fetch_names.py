"""Names are looked up apart from each other: shared, bounded, remembered for a short time."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from typing import Any

import pytest

from scrapeq.fetch import names as lookup
from scrapeq.fetch.names import NameFailed, Names, Postponed


class System:
    """The `getaddrinfo` of a machine on which some names are slow and some do not exist."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.slow = threading.Event()  # set: slow names resolve

    def getaddrinfo(self, host: str, port: Any, **_: Any) -> list[tuple[Any, ...]]:
        """Return the loopback address, after the slow names were let go."""
        self.calls[host] += 1
        if host.startswith("slow"):
            assert self.slow.wait(10)
        if "lost" in host or host.endswith("localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "full.test":
            raise OSError(24, "Too many open files")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    """Replace the system's names."""
    found = System()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    return found


async def test_slow_names_delay_no_other_and_their_result_is_used(system: System) -> None:
    """A hundred slow names are postponed and a healthy one resolves; later each slow one has needed one lookup."""
    names = Names(patience_s=0.05)
    slow = [f"slow-{number}.test" for number in range(100)]
    waiting = [asyncio.create_task(names.addresses(host)) for host in [*slow, *slow]]
    assert [address for _, _, address in await names.addresses("fast.test")] == ["10.0.0.1"]
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, Postponed)
        assert 0.5 <= outcome.delay_s <= 5
    system.slow.set()
    patient = [asyncio.create_task(_until_known(names, host)) for host in slow]
    assert all(await asyncio.gather(*patient))
    assert set(system.calls.values()) == {1}
    names.close()


async def _until_known(names: Names, host: str) -> bool:
    while True:
        try:
            return bool(await names.addresses(host))
        except Postponed:
            await asyncio.sleep(0)


async def test_a_failure_is_remembered_for_a_short_time(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request gets its own error, with the time until another lookup; exhaustion is not remembered."""
    names = Names()
    errors = [await _error(names, "lost.test") for _ in range(3)]
    assert system.calls == {"lost.test": 1}
    assert len({id(error) for error in errors}) == 3
    assert all(error.strerror == "Name or service not known" for error in errors)
    assert all(0 < error.wait_s <= lookup.FAILURE_KEPT_S for error in errors)
    monkeypatch.setattr(lookup, "FAILURE_KEPT_S", 0.0)
    for _ in range(2):
        await _error(names, "full.test")
    assert system.calls["full.test"] == 2


async def _error(names: Names, host: str) -> NameFailed:
    with pytest.raises(NameFailed) as caught:
        await names.addresses(host)
    return caught.value


async def test_without_patience_a_request_waits_and_cancelling_it_does_not_end_the_lookup(
    system: System,
) -> None:
    """The deadline of the egress ends the wait; the next request uses the same lookup."""
    names = Names()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await names.addresses("slow.test")
    system.slow.set()
    assert await names.addresses("slow.test")
    assert system.calls == {"slow.test": 1}


async def test_local_names_are_loopback_without_a_hosts_file(system: System) -> None:
    """RFC 6761, 6.3; the guard still decides whether they may be reached."""
    names = Names()
    assert {address for _, _, address in await names.addresses("api.localhost")} == {"127.0.0.1", "::1"}


async def test_labels_that_are_no_host_name_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's codec rejects them with a UnicodeError."""
    names = Names()
    for host in ("a..test", f"{'a' * 64}.test"):
        await _error(names, host)
