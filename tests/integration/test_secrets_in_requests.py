"""The real command with secrets in paths, queries, headers and bodies, which the server echoes wherever it can."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from pathlib import Path

import orjson
from api_scrapes import Command
from fetch_server import Received, response, serving

JSON = [("Content-Type", "application/json")]
SECRETS = {
    "TOK": "123:sekrit/tok",
    "QUERY_KEY": "sekrit query",
    "BODY_PW": 'sek"rit',
    "HEAD_TOKEN": "sekrit-head",
}
CONFIG = """\
version: 1
name: sealed
client: {base_url: "URL/bot${env:TOK}", headers: {X-Token: "${env:HEAD_TOKEN}"}, cache: {}}
rate_limits: [{name: all, rates: [{limit: 20, interval: 1s}], max_concurrency: 1}]
resources:
  - name: pages
    endpoint:
      path: pages
      params: {key: "${env:QUERY_KEY}", token: "${env:TOK}"}
      paginator: {type: json_link, next_url_path: next}
  - {name: posted, endpoint: {path: posted, method: POST, json: {login: {user: a, password: "${env:BODY_PW}"}}}}
  - {name: moved, endpoint: {path: moved, headers: {X-Other: "Key ${env:QUERY_KEY}"}}}
  - {name: dead, endpoint: {path: dead}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}, {type: warc, path: warc/}]
"""


def list_dead_letters(folder: Path) -> str:
    """Return what `scrapeq dead list` prints."""
    command = [sys.executable, "-m", "scrapeq", "-c", "sealed.yaml", "dead", "list"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**SECRETS, "PATH": ""})
    return done.stdout + done.stderr


def files_in(folder: Path) -> list[bytes]:
    """Return the contents of all files but the configuration: the store, the cache, outputs, logs."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "sealed.yaml"]
    assert any("store" in str(path) for path in files) and any(path.suffix == ".gz" for path in files)
    return [
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in files
    ]


async def test_secrets_are_sent_but_not_stored(tmp_path: Path) -> None:
    """Neither the store, dead letters, the cache, WARC request lines nor the console have them; the server does."""
    received: list[tuple[str, str, str]] = []

    async def respond(request: Received, writer: asyncio.StreamWriter) -> None:
        received.append((request.path, request.header("x-other") or "", request.body.decode()))
        path = request.path.partition("?")[0].rpartition("/")[2]
        if path == "pages":
            query = request.path.partition("?")[2]
            number = query.count("p=") + 1
            following = f"{request.path}&p={number}" if number < 3 else None
            writer.write(response(200, orjson.dumps({"items": [{"id": number}], "next": following}), *JSON))
        elif path == "moved":
            writer.write(response(302, b"", ("Location", request.path.replace("moved", "there"))))
        elif path == "dead":
            body = b'{"error": "unknown bot 123:sekrit/tok with sekrit-head"}'
            writer.write(response(404, body, *JSON))
        else:
            writer.write(response(200, b'[{"id": 1}]', *JSON, ("Cache-Control", "max-age=60")))

    async with serving(respond) as server:
        (tmp_path / "sealed.yaml").write_text(CONFIG.replace("URL", server.url))
        output = await asyncio.to_thread(Command(tmp_path, "sealed.yaml", env=SECRETS).run, code=3)
        listed = await asyncio.to_thread(list_dead_letters, tmp_path)
    bot = "/bot123%3Asekrit%2Ftok" if "%3A" in received[0][0] else "/bot123:sekrit%2Ftok"
    pages = [path for path, _, _ in received if "/pages" in path]
    assert len(pages) == 3 and all("sekrit%20query" in path or "sekrit+query" in path for path in pages)
    assert all(path.startswith(("/bot123", bot)) and "~~" not in path for path, _, _ in received)
    assert {other for path, other, _ in received if "/there" in path} == {"Key sekrit query"}
    (body,) = [body for path, _, body in received if "/posted" in path]
    assert orjson.loads(body) == {"login": {"user": "a", "password": 'sek"rit'}}
    assert "/dead" in listed and "***" in listed
    for text in [output.encode(), listed.encode(), *files_in(tmp_path)]:
        lines = [line for line in text.splitlines() if b"sekrit" in line or b'sek\\"rit' in line]
        # Outputs store the bodies of responses as they came; everything else is scrapeq's own.
        assert [line for line in lines if not line.startswith((b"{", b"["))] == []
