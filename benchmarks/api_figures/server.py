"""
Serve the benchmark's API: pages of records, and a page of children for some of them. Responses are precomputed.

    python -m benchmarks.api_figures.server PAGES RECORDS_A_PAGE EVERY CHILDREN

`/items?page=N` returns RECORDS_A_PAGE records and the number of pages; every EVERY-th record has `children: CHILDREN`,
and `/items/ID/children` returns them. The server prints its port and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
FIRST_S = 1_700_000_000
TAGS = ("red", "green", "blue", "old", "new")


def record(number: int, children: int) -> dict[str, Any]:
    """Return a record of about 350 bytes."""
    return {
        "id": number,
        "title": f"record {number}",
        "state": "open" if number % 3 else "closed",
        "updated_at": FIRST_S + number * 60,
        "score": number * 0.5,
        "user": {"id": number % 97, "login": f"user{number % 97}", "site_admin": False},
        "labels": [{"name": tag, "at": at} for at, tag in enumerate(TAGS[: number % 5])],
        "body": "lorem ipsum dolor sit amet " * 4,
        "children": children,
    }


def build_responses(pages: int, size: int, every: int, children: int) -> dict[bytes, bytes]:
    """Return every response by its request target."""
    responses: dict[bytes, bytes] = {}
    for page in range(1, pages + 1):
        numbers = range((page - 1) * size + 1, page * size + 1)
        data = [record(n, children if n % every == 0 else 0) for n in numbers]
        responses[b"/items?page=%d" % page] = orjson.dumps({"data": data, "page": page, "total_pages": pages})
        for number in numbers:
            if number % every == 0:
                below = [{"id": number * 1000 + at, "text": f"child {at}"} for at in range(children)]
                responses[b"/items/%d/children" % number] = orjson.dumps({"data": below})
    return {target: HEAD % (len(body), body) for target, body in responses.items()}


class _Connection(asyncio.Protocol):
    def __init__(self, responses: dict[bytes, bytes]) -> None:
        self._responses = responses
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for request in requests:
            self._transport.write(self._responses.get(request.split(b" ", 2)[1], NOT_FOUND))


async def serve(responses: dict[bytes, bytes]) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(responses), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(build_responses(*map(int, sys.argv[1:]))))
