"""`python -m scrapeq.demo`: serve the sample API; the first line on stdout is JSON with its URL."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable

import orjson

from scrapeq.demo.server import DEFAULT_LATENCY_MS, DEFAULT_LIMIT, DEFAULT_WINDOW_S, DemoServer


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError(text)
        return value

    number.__name__ = "positive number"
    return number


def _latency(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    bounds = float(low), float(high or low)
    if not 0 <= bounds[0] <= bounds[1] < float("inf"):
        raise ValueError(text)
    return bounds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scrapeq.demo", description="The sample API behind demo://."
    )
    parser.add_argument("--port", type=int, default=0, help="0 = any free port")
    parser.add_argument("--limit", type=_positive(int), default=DEFAULT_LIMIT, help="requests in a window")
    parser.add_argument(
        "--window", type=_positive(float), default=DEFAULT_WINDOW_S, help="seconds of a window"
    )
    parser.add_argument(
        "--latency-ms", type=_latency, default=DEFAULT_LATENCY_MS, help="delay of an answer: 10, or 5-20"
    )
    parser.add_argument("--scale", type=_positive(float), default=1.0, help="multiplies the number of issues")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same records")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when stdin is closed")
    return parser


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop may be closed already
        loop.call_soon_threadsafe(stop.set)


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if arguments.exit_with_stdin:
        # Ctrl-C reaches the whole process group; the parent drains first and decides when this one ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    else:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    server = DemoServer(
        limit=int(arguments.limit),
        window_s=arguments.window,
        latency_ms=arguments.latency_ms,
        scale=arguments.scale,
        seed=arguments.seed,
        port=arguments.port,
    )
    async with server:
        sys.stdout.write(orjson.dumps({"url": server.url}).decode() + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> int:
    """Serve until a signal, or the end of stdin; 1 when the port cannot be had."""
    arguments = _parser().parse_args()
    try:
        asyncio.run(_serve(arguments))
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"the sample API cannot listen on port {arguments.port}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
