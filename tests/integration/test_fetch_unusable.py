"""Responses whose body or status cannot be taken as it is: what they say about waiting counts all the same."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from api_scrapes import Command
from fetch_server import Received, response, serving

from scrapeq import errors
from scrapeq.fetch import Egress
from scrapeq.plan import Client

JSON = ("Content-Type", "application/json")
SIGNED = b"5;chunk-signature=ab12\r\n[1,2,\r\n3;chunk-signature=cd34\r\n 3]\r\n0;chunk-signature=ef56\r\n\r\n"
BODIES = {
    "/stored": ("aws-chunked", b"[1,2, 3]"),
    "/short": ("aws-chunked", b"7"),
    "/numbers": ("aws-chunked", b"10\r\n20\r\n"),
    "/framed": ("aws-chunked", SIGNED),
    "/gzip": ("aws-chunked,gzip", gzip.compress(b"[1,2, 3]", mtime=0)),
    "/both": (
        "gzip, aws-chunked",
        (lambda data: b"%x;chunk-signature=aa\r\n%b\r\n0;chunk-signature=bb\r\n\r\n" % (len(data), data))(
            gzip.compress(b"[1,2, 3]", mtime=0)
        ),
    ),
}


async def serve(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer by the path."""
    if request.path in BODIES:
        coding, body = BODIES[request.path]
        writer.write(response(200, body, JSON, ("Content-Encoding", coding)))
    elif request.path == "/partial":
        writer.write(response(206, b"[1]", JSON, ("Content-Range", "bytes 0-2/9")))
    elif request.path == "/same":
        writer.write(response(304, b""))
    elif request.path == "/broken":
        writer.write(response(503, b"no gzip", ("Content-Encoding", "gzip"), ("Retry-After", "7")))
    else:
        writer.write(response(429, b"x" * 100_000, ("Retry-After", "7")))


@pytest.mark.parametrize("path", BODIES)
async def test_the_framing_of_an_upload_is_removed(path: str) -> None:
    """S3 keeps the header of the upload, and mostly not its framing."""
    expected = {"/short": b"7", "/numbers": b"10\r\n20\r\n"}.get(path, b"[1,2, 3]")
    async with serving(serve) as server, Egress(Client(base_url=server.url)) as egress:
        assert (await egress.send("GET", server.url + path)).body == expected


@pytest.mark.parametrize(("path", "status"), [("/large", 429), ("/broken", 503)])
async def test_an_error_with_an_unusable_body_keeps_its_status(path: str, status: int) -> None:
    """Its Retry-After counts; of the body, at most the cap is left."""
    async with serving(serve) as server, Egress(Client(base_url=server.url, max_body_size=1000)) as egress:
        page = await egress.send("GET", server.url + path)
    assert (page.status, page.header("retry-after")) == (status, "7")
    assert len(page.body) <= 1000


async def test_a_success_with_an_unusable_body_is_an_error() -> None:
    """A page is never cut."""
    async with serving(serve) as server, Egress(Client(base_url=server.url, max_body_size=3)) as egress:
        with pytest.raises(errors.BodyTooLarge):
            await egress.send("GET", server.url + "/stored")


@pytest.mark.parametrize(
    ("path", "header"), [("/partial", ("Range", "bytes=0-2")), ("/same", ("If-None-Match", '"a"'))]
)
async def test_a_part_or_nothing_new_counts_only_if_it_was_requested(
    path: str, header: tuple[str, str]
) -> None:
    """Else it is an error of the server."""
    async with serving(serve) as server, Egress(Client(base_url=server.url)) as egress:
        assert (await egress.send("GET", server.url + path)).is_unrequested
        assert not (await egress.send("GET", server.url + path, headers=[header])).is_unrequested


async def test_unrequested_parts_are_dead_letters_in_the_end(tmp_path: Path) -> None:
    """They are tried again like any broken response, unless an action accepts them."""
    config = """\
version: 1
name: parts
client: {base_url: "URL"}
resources:
  - {name: partial}
  - {name: same}
  - {name: accepted, endpoint: partial, response_actions: [{match: {status: 206}, action: success}]}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
    async with serving(serve) as server:
        (tmp_path / "parts.yaml").write_text(config.replace("URL", server.url))
        output = await asyncio.to_thread(Command(tmp_path, "parts.yaml").run, code=3)
    assert "partial: 206 Partial Content, though the request had no range" in output
    assert "same: 304 Not Modified, though the request had no condition" in output
    assert "2 dead letters" in output
    assert (tmp_path / "out" / "accepted.jsonl").read_text() == '{"value":1}\n'
