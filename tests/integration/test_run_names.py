"""The real command, with names that resolve slowly: only their own tasks wait, and nothing is charged."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import slow_names
from api_scrapes import Command
from fetch_server import Received, response, serving

HEALTHY = [f"ok{number}.test" for number in range(20)]
SLOW = [f"slow-5-{number}.test" for number in range(12)]
CONFIG = """\
version: 1
name: names
client: {base_url: "http://ok0.test:PORT", allow_hosts: HOSTS}
seeds: SEEDS
resources:
  - {name: pages, endpoint: {url: "http://${seed.host}:PORT/${seed.host}/${seed.n}"}, primary_key: id}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""


async def test_slow_names_delay_only_their_own_tasks(tmp_path: Path) -> None:
    """
    Twelve names take 5 s, and the worker has four slots.

    The tasks of twenty healthy hosts are done before; each task of a slow host is requested once and succeeds.
    """
    times: dict[str, float] = {}

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        assert request.path not in times
        times[request.path] = time.monotonic()
        body = orjson.dumps([{"id": request.path}])
        writer.write(response(200, body, ("Content-Type", "application/json")))

    async with serving(respond) as server:
        seeds = [{"host": host, "n": n} for host in [*SLOW, *HEALTHY] for n in range(3)]
        text = CONFIG.replace("PORT", str(server.port)).replace("SEEDS", orjson.dumps(seeds).decode())
        (tmp_path / "names.yaml").write_text(text.replace("HOSTS", orjson.dumps(SLOW + HEALTHY).decode()))
        command = Command(tmp_path, "names.yaml", env={"PYTHONPATH": slow_names.install(tmp_path)})
        output = await asyncio.to_thread(command.run, "--workers", "1", "--concurrency", "4")
    assert len(command.jsonl("out/pages.jsonl")) == len(seeds)
    healthy = [at for path, at in times.items() if path.startswith("/ok")]
    slow = [at for path, at in times.items() if path.startswith("/slow")]
    assert max(healthy) < min(slow)
    assert "is not resolved yet; tasks wait, and no attempt is charged" in output
    assert f"requests  {len(seeds)}, 0 refused\n" in output
