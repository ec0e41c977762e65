"""`order: fair` in a whole run: ten hosts share one limit, and each host's tasks are pushed before the next host's."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

from aiohttp import web

HOSTS, TASKS = 10, 8
GIVE_UP_S = 60.0
CONFIG = """\
version: 1
name: fair
queue: {order: fair}
run: {workers: 2, concurrency: 8}
client: {allow_hosts: [127.0.0.1]}
rate_limits:
  - {name: all, partition_by: [], rates: [{limit: 100, interval: 1s}]}
  - {name: site, partition_by: [host], max_concurrency: 4}
seeds: [SEEDS]
resources: [{name: page, endpoint: {url: "${seed.url}"}}]
outputs: [{type: jsonl, path: out.jsonl}]
"""


def jain(values: list[int]) -> float:
    """Jain's index: 1 when all have the same share, 1/n when one has all."""
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


async def test_hosts_that_share_a_limit_get_equal_shares(tmp_path: Path) -> None:
    """All hosts get the same number of requests at any time, whatever the order of their tasks."""
    order: list[str] = []

    async def page(request: web.Request) -> web.Response:
        order.append(request.host)
        return web.json_response([{"path": request.path}])

    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    for _ in range(HOSTS):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    ports = [address[1] for address in runner.addresses]
    urls = [f"http://127.0.0.1:{port}/{i}" for port in ports for i in range(TASKS)]
    seeds = ", ".join(f'{{url: "{url}"}}' for url in urls)
    (tmp_path / "fair.yaml").write_text(CONFIG.replace("SEEDS", seeds))
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scrapeq", "run", "fair.yaml"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(run.communicate(), GIVE_UP_S)
    await runner.cleanup()
    assert run.returncode == 0, errors.decode()
    counts = Counter(order[: HOSTS * TASKS * 3 // 4])
    assert jain([counts[f"127.0.0.1:{port}"] for port in ports]) >= 0.99
