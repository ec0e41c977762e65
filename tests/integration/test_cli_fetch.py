"""`scrapeq fetch` shows one page; the store counts the request, and nothing else changes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from fetch_server import Received, Server, response, serving

from scrapeq.cli import main
from scrapeq.queue import Queue
from scrapeq.queue.connect import async_client

CONFIG = """\
version: 1
name: fetched
client:
  base_url: URL
  headers: {X-Own: seen, X-Secret-Thing: "${env:SECRET}"}
  auth: {type: bearer, token: "${env:SECRET}"}
rate_limits:
  - {name: core, rates: [{limit: 1, interval: 1h}]}
seeds: [{shop: a}, {shop: b}]
resources:
  - name: orders
    endpoint: {path: "orders/${seed.shop}", paginator: {type: json_link, next_url_path: next}}
    primary_key: id
    priority: record.at
  - name: lines
    parent: {resource: orders, when: parent.lines > 0}
    endpoint: orders/${parent.id}/lines
  - {name: parts, parent: {resource: orders, each: parts}}
response_actions:
  - {match: {status: 503}, action: fail, message: "shop ${status}"}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
SECRET = "hidden-token"
COOKIE = "hidden-session"
ORDERS = {"items": [{"id": n, "at": 100 - n, "lines": n % 2} for n in range(20)], "next": "/orders/a?page=2"}


async def shop(request: Received, writer: asyncio.StreamWriter) -> None:
    """Serve the API of a shop, with some paths that fail."""
    kind = ("Content-Type", "application/json")
    if request.path.startswith("/closed"):
        writer.write(response(429, b"", ("Retry-After", "30")))
    elif request.path.startswith("/broken"):
        writer.write(response(503, b""))
    elif request.path.startswith("/text"):
        writer.write(response(200, b"not JSON", ("Content-Type", "text/html")))
    elif request.path.startswith("/moved"):
        writer.write(response(302, b"", ("Location", "/orders/a?api=1")))
    else:
        left = ("X-RateLimit-Remaining", "41"), ("X-RateLimit-Reset", "60")
        reported = ("Set-Cookie", f"sid={COOKIE}"), ("X-Echo", request.header("authorization") or "")
        writer.write(response(200, orjson.dumps(ORDERS), kind, *left, *reported))


async def scrapeq(folder: Path, *args: str) -> tuple[int, str, str]:
    """Run a command as a user does; return its exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "scrapeq", *args),
        cwd=folder,
        env={"SECRET": SECRET, "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert SECRET.encode() not in out + err
    assert COOKIE.encode() not in out + err
    assert b"Traceback" not in err
    return process.returncode or 0, out.decode(), err.decode()


def write_config(folder: Path, server: Server, **changes: str) -> None:
    text = CONFIG.replace("URL", server.url)
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "t.yaml").write_text(text)


async def test_a_page_is_shown_with_request_limits_items_and_follow_ups(tmp_path: Path) -> None:
    """Credentials are masked, the first items and tasks are shown, the others counted; nothing is written."""
    async with serving(shop) as server:
        write_config(tmp_path, server)
        code, out, _ = await scrapeq(tmp_path, "-c", "t.yaml", "fetch", "--resource", "orders")
    assert code == 0
    (request,) = server.received
    assert (request.path, request.header("authorization")) == ("/orders/a", f"Bearer {SECRET}")
    for line in (
        "orders, page 1",
        f"request   GET {server.url}/orders/a",
        "          Authorization: Bearer ***",
        "          X-Own: seen",
        "          X-Secret-Thing: ***",
        "outcome   success",
        "items     20 orders",
        '          {"id":0,"at":100,"lines":0}',
        "follow-up 10 lines",
        f"          99  GET {server.url}/orders/1/lines",
        f"next page 81  GET {server.url}/orders/a?page=2",
        "no item was written, no task was pushed; no store counted the request",
    ):
        assert line in out.splitlines(), out
    assert "core" in out and ": 41 left until" in out
    assert not (tmp_path / "out").exists()


async def test_a_file_alone_fetches_the_first_page(tmp_path: Path) -> None:
    """Without a URL and a resource, the first resource that does not follow from another is used."""
    async with serving(shop) as server:
        write_config(tmp_path, server)
        code, out, _ = await scrapeq(tmp_path, "-c", "t.yaml", "fetch")
    assert code == 0
    assert out.startswith("orders, page 1") and len(server.received) == 1


async def test_the_request_counts_against_the_limits_of_the_store(tmp_path: Path, store_url: str) -> None:
    """The second request is not sent, since its limit is closed; the queue stays empty."""
    async with serving(shop) as server:
        write_config(tmp_path, server)
        args = ("--redis", store_url, "-c", "t.yaml", "fetch", "--resource", "orders", "--seed", "shop=b")
        code, out, _ = await scrapeq(tmp_path, *args, "--json")
        assert code == 0
        code, _, err = await scrapeq(tmp_path, *args)
    assert (code, len(server.received)) == (4, 1)
    assert (
        err.startswith("error: core (127.0.0.1:")
        and ") is closed for another " in err
        and "--max-wait waits for it" in err
    )
    result = orjson.loads(out)
    assert result["counted"] is True
    assert result["requests"][0]["url"] == f"{server.url}/orders/b"
    assert result["items"] == {"orders": 20} and len(result["first_items"]) == 5
    assert result["follow_ups"] == {"lines": 10}
    assert result["next_page"]["url"] == f"{server.url}/orders/a?page=2"
    assert [reported["remaining"] for reported in result["limits"]["told"]] == [41]
    client = async_client(store_url)
    async with Queue(client, "fetched") as queue:
        counts = await queue.counts()
        states = await queue.limit_states(await queue.limit_instances())
    await client.aclose()
    assert (counts.live, counts.dead, counts.done) == (0, 0, 0)
    assert [(state.in_flight, state.remaining) for state in states] == [(0, 41)]


@pytest.mark.parametrize(
    ("path", "code", "line_start"),
    [
        ("closed", 4, "outcome   rate_limited (limit), wait 30s: 429 Too Many Requests"),
        ("broken", 8, "outcome   fail: shop 503"),
        ("text", 3, "          dead letter: "),
        ("moved", 0, "items     20 orders"),
    ],
)
async def test_the_outcome_is_shown_and_decides_the_exit_code(
    tmp_path: Path, path: str, code: int, line_start: str
) -> None:
    """For refusals, responses that stop a run, responses that cannot be read, and redirects."""
    async with serving(shop) as server:
        write_config(tmp_path, server)
        url = f"{server.url}/{path}"
        ended, out, _ = await scrapeq(tmp_path, "-c", "t.yaml", "fetch", url, "--resource", "orders")
    assert ended == code, out
    assert any(line.startswith(line_start) for line in out.splitlines()), out
    if path == "moved":
        assert f"then      GET {server.url}/orders/a?api=1" in out


async def test_a_child_resource_needs_the_values_of_its_parent(tmp_path: Path) -> None:
    """--parent gives them; without it the error says what is missing."""
    async with serving(shop) as server:
        write_config(tmp_path, server)
        code, _, _ = await scrapeq(
            tmp_path, "-c", "t.yaml", "fetch", "--resource", "lines", "--parent", "id=7"
        )
        assert (code, server.received[0].path) == (0, "/orders/7/lines")
        code, _, err = await scrapeq(tmp_path, "-c", "t.yaml", "fetch", "--resource", "lines")
    assert (code, err) == (
        2,
        "error: lines follows from orders: give the parent's values (--parent K=V), or a URL\n",
    )


async def test_any_url_is_shown_without_a_configuration(tmp_path: Path) -> None:
    """It is read with the defaults; a page that cannot be fetched is a retry with one line."""
    async with serving(shop) as server:
        code, out, _ = await scrapeq(tmp_path, "fetch", f"{server.url}/x", "--json")
    assert code == 0
    result: dict[str, Any] = orjson.loads(out)
    assert (result["resource"], result["items"], result["outcome"]["action"]) == (
        "page",
        {"page": 20},
        "success",
    )
    assert result["answer"]["status"] == 200
    code, out, _ = await scrapeq(tmp_path, "fetch", f"{server.url}/x")
    assert code == 3
    assert "\noutcome   retry: GET " in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("fetch",), "fetch: give a URL, --resource NAME or -c FILE"),
        (
            ("-c", "t.yaml", "fetch", "--resource", "parts"),
            "parts is not requested itself: its records come from pages of orders",
        ),
        (("fetch", "nonsense"), "'nonsense' is neither an http(s) URL nor a JSON object"),
        (
            ("-c", "t.yaml", "fetch", "http://a.test/"),
            "several resources could read the response; choose one with --resource: orders, lines",
        ),
        (
            ("-c", "t.yaml", "fetch", "--resource", "order"),
            "--resource: unknown resource 'order'; did you mean orders?",
        ),
        (
            ("-c", "t.yaml", "fetch", "--resource", "orders", "--seed", "x"),
            "--seed: expected KEY=VALUE, got 'x'",
        ),
        (
            ("-c", "t.yaml", "fetch", "--resource", "orders", "--parent", "a=1"),
            "--parent: orders does not have a parent",
        ),
        (
            ("-c", "t.yaml", "fetch", "--resource", "orders", "--seed", "x=1"),
            "a value in the path is null or missing in seed",
        ),
    ],
)
def test_wrong_usage_is_one_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    message: str,
) -> None:
    """It is reported before any request is sent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", SECRET)
    (tmp_path / "t.yaml").write_text(CONFIG.replace("URL", "http://127.0.0.1:9"))
    assert main([*args]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") <= 2
