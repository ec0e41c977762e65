"""`scrapeq fetch`: one page as the engine sees it, counted, and nothing else changed."""

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
    """Answers as a shop does, and as one that is closed."""
    kind = ("Content-Type", "application/json")
    if request.path.startswith("/closed"):
        writer.write(response(429, b"", ("Retry-After", "30")))
    elif request.path.startswith("/broken"):
        writer.write(response(503, b""))
    elif request.path.startswith("/text"):
        writer.write(response(200, b"no JSON", ("Content-Type", "text/html")))
    elif request.path.startswith("/moved"):
        writer.write(response(302, b"", ("Location", "/orders/a?api=1")))
    else:
        left = ("X-RateLimit-Remaining", "41"), ("X-RateLimit-Reset", "60")
        reported = ("Set-Cookie", f"sid={COOKIE}"), ("X-Echo", request.header("authorization") or "")
        writer.write(response(200, orjson.dumps(ORDERS), kind, *left, *reported))


async def scrapeq(folder: Path, *args: str) -> tuple[int, str, str]:
    """A command as a person calls it; its exit code and what it says."""
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


def written(folder: Path, server: Server, **changes: str) -> None:
    text = CONFIG.replace("URL", server.url)
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "t.yaml").write_text(text)


async def test_a_page_is_shown_with_its_request_limits_items_and_follow_ups(tmp_path: Path) -> None:
    """Credentials are masked, the first items and tasks shown, the rest counted; nothing is written."""
    async with serving(shop) as server:
        written(tmp_path, server)
        code, out, _ = await scrapeq(tmp_path, "-c", "t.yaml", "fetch", "--resource", "orders")
    assert code == 0
    (request,) = server.received
    assert (request.path, request.header("authorization")) == ("/orders/a", f"Bearer {SECRET}")
    for line in (
        "orders, page 1",
        f"sent      GET {server.url}/orders/a",
        "          Authorization: Bearer ***",
        "          X-Own: seen",
        "          X-Secret-Thing: ***",
        "means     success",
        "items     20 orders",
        '          {"id":0,"at":100,"lines":0}',
        "follows   10 lines",
        f"          99  GET {server.url}/orders/1/lines",
        f"next page 81  GET {server.url}/orders/a?page=2",
        "nothing was written or pushed; no store counts it",
    ):
        assert line in out.splitlines(), out
    assert "core" in out and ": 41 left until" in out
    assert not (tmp_path / "out").exists()


async def test_a_file_alone_is_its_first_page(tmp_path: Path) -> None:
    """Neither an address nor a resource: the first resource that follows from none."""
    async with serving(shop) as server:
        written(tmp_path, server)
        code, out, _ = await scrapeq(tmp_path, "-c", "t.yaml", "fetch")
    assert code == 0
    assert out.startswith("orders, page 1") and len(server.received) == 1


async def test_it_counts_against_the_limits_of_the_store(tmp_path: Path, store_url: str) -> None:
    """The second request meets a closed limit and is not sent; no task is left behind."""
    async with serving(shop) as server:
        written(tmp_path, server)
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
    answer = orjson.loads(out)
    assert answer["counted"] is True
    assert answer["requests"][0]["url"] == f"{server.url}/orders/b"
    assert answer["items"] == {"orders": 20} and len(answer["first_items"]) == 5
    assert answer["follow_ups"] == {"lines": 10}
    assert answer["next_page"]["url"] == f"{server.url}/orders/a?page=2"
    assert [reported["remaining"] for reported in answer["limits"]["told"]] == [41]
    client = async_client(store_url)
    async with Queue(client, "fetched") as queue:
        counts = await queue.counts()
        states = await queue.limit_states(await queue.limit_instances())
    await client.aclose()
    assert (counts.live, counts.dead, counts.done) == (0, 0, 0)
    assert [(state.in_flight, state.remaining) for state in states] == [(0, 41)]


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("closed", 4, "means     rate_limited (limit), wait 30s: 429 Too Many Requests"),
        ("broken", 8, "means     fail: shop 503"),
        ("text", 3, "          dead letter: the response (text/html) is not valid JSON"),
        ("moved", 0, "items     20 orders"),
    ],
)
async def test_what_an_answer_means_is_said_and_is_the_exit_code(
    tmp_path: Path, path: str, code: int, said: str
) -> None:
    """Refusals, answers that end a run, pages that are none, redirects."""
    async with serving(shop) as server:
        written(tmp_path, server)
        url = f"{server.url}/{path}"
        ended, out, _ = await scrapeq(tmp_path, "-c", "t.yaml", "fetch", url, "--resource", "orders")
    assert ended == code, out
    assert any(line.startswith(said) for line in out.splitlines()), out
    if path == "moved":
        assert f"and then  GET {server.url}/orders/a?api=1" in out


async def test_a_child_is_asked_for_with_its_parents_values(tmp_path: Path) -> None:
    """--parent gives the record; without it the command says what is missing."""
    async with serving(shop) as server:
        written(tmp_path, server)
        code, _, _ = await scrapeq(
            tmp_path, "-c", "t.yaml", "fetch", "--resource", "lines", "--parent", "id=7"
        )
        assert (code, server.received[0].path) == (0, "/orders/7/lines")
        code, _, err = await scrapeq(tmp_path, "-c", "t.yaml", "fetch", "--resource", "lines")
    assert (code, err) == (2, "error: lines follows from orders: give --parent K=V, or an address\n")


async def test_any_address_is_shown_without_a_configuration(tmp_path: Path) -> None:
    """With the readings that hold where nothing is known; a page that cannot be had is one line."""
    async with serving(shop) as server:
        code, out, _ = await scrapeq(tmp_path, "fetch", f"{server.url}/x", "--json")
    assert code == 0
    answer: dict[str, Any] = orjson.loads(out)
    assert (answer["resource"], answer["items"], answer["outcome"]["action"]) == (
        "page",
        {"page": 20},
        "success",
    )
    assert answer["answer"]["status"] == 200
    code, out, _ = await scrapeq(tmp_path, "fetch", f"{server.url}/x")
    assert code == 3
    assert "\nmeans     retry: GET " in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("fetch",), "fetch what? an address, or --resource NAME"),
        (
            ("-c", "t.yaml", "fetch", "--resource", "parts"),
            "parts has no endpoint: it is seen on a page of orders",
        ),
        (("fetch", "nonsense"), "'nonsense' is neither an http(s) address nor a JSON object"),
        (
            ("-c", "t.yaml", "fetch", "http://a.test/"),
            "which resource reads the answer? --resource, one of orders, lines",
        ),
        (
            ("-c", "t.yaml", "fetch", "--resource", "order"),
            "no resource is called 'order'; did you mean orders?",
        ),
        (("-c", "t.yaml", "fetch", "--resource", "orders", "--seed", "x"), "--seed: 'x' is no KEY=VALUE"),
        (("-c", "t.yaml", "fetch", "--resource", "orders", "--parent", "a=1"), "orders has no parent"),
        (("-c", "t.yaml", "fetch", "--resource", "orders", "--seed", "x=1"), "leaves a null in the path"),
    ],
)
def test_a_wrong_call_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    said: str,
) -> None:
    """Before anything is asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", SECRET)
    (tmp_path / "t.yaml").write_text(CONFIG.replace("URL", "http://127.0.0.1:9"))
    assert main([*args]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") <= 2
