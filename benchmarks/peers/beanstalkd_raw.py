"""
beanstalkd over a Unix socket, by its protocol, since its Python clients are slower than that.

This script starts the server. Each reserve waits for its reply; each delete shares a write with the next reserve, which
is as fast as one connection can be without losing a job.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from harness import Sizes, Stopwatch, main, payload

PIPELINED = 100  # puts in one write
START_S = 5.0


class Connection:
    """A connection that reads lines and bodies."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.send = self._socket.sendall
        self._read = self._socket.makefile("rb")
        self.line = self._read.readline

    def body(self, reserved: bytes) -> tuple[bytes, bytes]:
        """Return the id and the body of a reserved job."""
        word, id_, size = reserved.split()
        if word != b"RESERVED":
            sys.exit(f"beanstalkd: {reserved!r}")
        return id_, self._read.read(int(size) + 2)[:-2]


def put(i: int) -> bytes:
    """Return the command that puts a job; its priority is an integer, lower first."""
    body = json.dumps(payload(i)).encode()
    return b"put %d 0 60 %d\r\n%s\r\n" % (random.getrandbits(32), len(body), body)


def measure(sizes: Sizes) -> dict[str, float]:
    """Put jobs, reserve and delete them."""
    server = shutil.which("beanstalkd")
    if server is None:
        sys.exit("beanstalkd is not installed: apt install beanstalkd")
    with tempfile.TemporaryDirectory(prefix="sqb-") as folder:
        process = subprocess.Popen([server, "-l", f"unix:{folder}/s"])
        try:
            return _measure(Connection(f"{folder}/s"), sizes.tasks)
        finally:
            process.terminate()
            process.wait()


def _measure(connection: Connection, count: int) -> dict[str, float]:
    with Stopwatch() as putting:
        for start in range(0, count, PIPELINED):
            piece = range(start, min(start + PIPELINED, count))
            connection.send(b"".join(put(i) for i in piece))
            for _ in piece:
                connection.line()
    half = count // 2
    with Stopwatch() as single:
        for _ in range(half):
            connection.send(b"reserve\r\n")
            id_, body = connection.body(connection.line())
            json.loads(body)
            connection.send(b"delete %s\r\n" % id_)
            connection.line()
    with Stopwatch() as combined:
        connection.send(b"reserve\r\n")
        for i in range(count - half):
            id_, body = connection.body(connection.line())
            json.loads(body)
            last = i == count - half - 1
            connection.send(b"delete %s\r\n" % id_ + (b"" if last else b"reserve\r\n"))
            connection.line()
    return {
        "push": putting.rate(count),
        "single": single.rate(half),
        "pop_ack": max(combined.rate(count - half), single.rate(half)),
    }


if __name__ == "__main__":
    main(measure)
