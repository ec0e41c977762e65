"""Names for the real command: `sitecustomize` in a folder of PYTHONPATH, which every process of a run loads."""

from __future__ import annotations

from pathlib import Path

_SITECUSTOMIZE = """
import socket
import time

_original = socket.getaddrinfo


def getaddrinfo(host, port, *args, **kwargs):
    if isinstance(host, str) and host.startswith("slow-"):
        time.sleep(float(host.split("-")[1]))
        if host.endswith(".lost.test"):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        host = "127.0.0.1"
    elif isinstance(host, str) and host.endswith(".test"):
        host = "127.0.0.1"
    return _original(host, port, *args, **kwargs)


socket.getaddrinfo = getaddrinfo
"""


def install(folder: Path) -> str:
    """
    Write the module, and return the value of PYTHONPATH that makes it effective.

    Names under `.test` resolve to 127.0.0.1. Those that begin with `slow-N-` do so after N seconds; under `.lost.test`
    they fail then.
    """
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return str(folder)
