"""Call the command line in this process, with the queue of a small configuration."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from scrapeq.cli import main
from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client
from scrapeq.task import NewTask

CONFIG = """\
version: 1
name: t
client: {base_url: "http://127.0.0.1:9/"}
seeds: [{n: 1}]
resources:
  - {name: pages, endpoint: "p/${seed.n}"}
  - {name: notes, endpoint: "n/${seed.n}"}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
URL = "http://127.0.0.1:9/a"


def call(*args: str) -> int:
    """Run one command in this process and return its exit code."""
    return main([*args])


def json_out(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """Return the JSON Lines on standard output."""
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


def with_queue(store_url: str, work: Any) -> Any:
    """Run `work` with the queue of the configuration and return its result."""

    async def open_and_work() -> Any:
        client = async_client(store_url)
        async with Queue(client, "t") as queue:
            result = await work(queue)
        await client.aclose()
        return result

    return asyncio.run(open_and_work())


def make_dead(store_url: str, *errors: str) -> list[str]:
    """Create dead letters with these errors and return their ids."""

    async def work(queue: Queue) -> list[str]:
        await queue.push_many(
            NewTask({"v": 1, "resource": "pages", "method": "GET", "url": f"{URL}/{i}"})
            for i in range(len(errors))
        )
        ids = []
        for error in errors:
            task = await queue.pop()
            assert task is not None and task.lease is not None
            await queue.bury(task.lease, error)
            ids.append(task.id)
        return ids

    found: list[str] = with_queue(store_url, work)
    return found
