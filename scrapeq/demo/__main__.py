"""`python -m scrapeq.demo`: serve the sample API. The first line on standard output is JSON with its URL."""

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

STDIN_CHUNK_BYTES = 4096


def _positive(parse: Callable[[str], float]) -> Callable[[str], float]:
    """Return a parser for positive numbers; argparse shows its name in error messages."""

    def number(text: str) -> float:
        value = parse(text)
        if not 0 < value < float("inf"):
            raise ValueError(text)
        return value

    number.__name__ = "positive number"
    return number


def _latency(text: str) -> tuple[float, float]:
    """Parse "10" or "5-20" as the least and the greatest delay, milliseconds."""
    low, _, high = text.partition("-")
    bounds = float(low), float(high or low)
    if not 0 <= bounds[0] <= bounds[1] < float("inf"):
        raise ValueError(text)
    return bounds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scrapeq.demo", description="The sample API behind demo://."
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 = any free port")
    parser.add_argument(
        "--limit", type=_positive(int), default=DEFAULT_LIMIT, help="requests granted per window"
    )
    parser.add_argument(
        "--window", type=_positive(float), default=DEFAULT_WINDOW_S, help="length of a window, seconds"
    )
    parser.add_argument(
        "--latency-ms",
        type=_latency,
        default=DEFAULT_LATENCY_MS,
        help="delay of a response, such as 10 or 5-20",
    )
    parser.add_argument("--scale", type=_positive(float), default=1.0, help="factor for the number of issues")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the records; the same seed gives the same records"
    )
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input is closed")
    return parser


def _stop_at_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while sys.stdin.buffer.read(STDIN_CHUNK_BYTES):
        pass
    with contextlib.suppress(RuntimeError):  # the loop may be closed already
        loop.call_soon_threadsafe(stop.set)


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if arguments.exit_with_stdin:
        # Ctrl-C reaches the whole process group. The parent drains first and then ends this process.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_stop_at_end_of_stdin, args=(loop, stop), daemon=True).start()
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
    """Serve until a signal or the end of standard input; return 1 if the port is not available."""
    arguments = _parser().parse_args()
    try:
        asyncio.run(_serve(arguments))
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"the sample API cannot listen on port {arguments.port}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
