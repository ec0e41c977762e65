"""The real command reaches hosts in every spelling, and reports what TLS rejects in the words of OpenSSL."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from api_scrapes import Command
from fetch_server import Received, Server, response, serving
from tls_servers import Certificates

CONFIG = """\
version: 1
name: hosts
client:
  base_url: "V6"
  allow_hosts: ["127.0.0.1"]
resource_defaults: {primary_key: id}
resources:
  - {name: v6, endpoint: {path: v6, paginator: {type: json_link, next_url_path: next}}}
  - {name: secure, endpoint: {url: "VALID/secure", paginator: {type: json_link, next_url_path: next}}}
  - {name: expired, endpoint: {url: "EXPIRED/r"}}
  - {name: foreign, endpoint: {url: "FOREIGN/r"}}
  - {name: unknown, endpoint: {url: "UNKNOWN/r"}}
  - {name: plain, endpoint: {url: "PLAIN/r"}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""


async def _respond(request: Received, writer: asyncio.StreamWriter) -> None:
    """Serve two pages: IPv6 links in a long spelling with a redirect, and http links on an https host."""
    host, path = request.header("host"), urlsplit(request.path)
    port = (host or "").rpartition(":")[2]
    if path.path == "/v6" and path.query == "page=2":
        writer.write(response(302, b"", ("Location", f"http://[::1]:{port}/moved")))
        return
    links = {"/v6": f"http://[0:0:0:0:0:0:0:1]:{port}/v6?page=2", "/secure": f"http://{host}/secure?page=2"}
    following = None if path.query else links.get(path.path)
    body = orjson.dumps({"data": [{"id": path.path + path.query}], "next": following})
    writer.write(response(200, body, ("Content-Type", "application/json")))


async def _refuse_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a TLS handshake as an HTTP server does."""
    await reader.read(1)
    writer.write(response(400))
    await writer.drain()
    writer.close()


async def test_hosts_in_every_spelling_and_tls_in_its_own_words(tmp_path: Path) -> None:
    """IPv6, IDN and http links on an https host are followed; each TLS failure is final, after one attempt."""
    certificates = Certificates()
    certificates.trusted.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with AsyncExitStack() as stack:

        async def start(host: str = "127.0.0.1", tls: object = None) -> Server:
            return await stack.enter_async_context(serving(_respond, host, tls))  # type: ignore[arg-type]

        v6 = await start("::1")
        plain = await stack.enter_async_context(await asyncio.start_server(_refuse_tls, "127.0.0.1", 0))
        secure, expired = await start(tls=certificates.valid()), await start(tls=certificates.expired())
        foreign = await start(tls=certificates.of_another_host())
        unknown = await start(tls=certificates.of_unknown_authority())
        text = CONFIG.replace("V6", v6.url).replace("VALID", secure.url).replace("EXPIRED", expired.url)
        text = text.replace("FOREIGN", foreign.url).replace("UNKNOWN", unknown.url)
        text = text.replace("PLAIN", f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}")
        (tmp_path / "hosts.yaml").write_text(text)
        command = Command(tmp_path, "hosts.yaml", env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
        output = await asyncio.to_thread(command.run, "--workers", "1", code=3)
    assert [one["id"] for one in command.jsonl("out/v6.jsonl")] == ["/v6", "/moved"]
    assert {one.header("host") for one in v6.received} == {f"[::1]:{v6.port}"}
    assert [one["id"] for one in command.jsonl("out/secure.jsonl")] == ["/secure", "/securepage=2"]
    assert output.count("links to the next page use http") == 1
    for name, words in {
        "expired": "certificate verify failed: certificate has expired",
        "foreign": "certificate verify failed: IP address mismatch, certificate is not valid for '127.0.0.1'",
        "unknown": "certificate verify failed: unable to get local issuer certificate; to trust another certificate "
        "authority, set SSL_CERT_FILE",
        "plain": "TLS: wrong version number; the server does not speak TLS on this port, so use http://",
    }.items():
        [line] = [line for line in output.splitlines() if f"dead   {name}:" in line]
        assert words in line, line
    assert "not permitted" not in output
    assert [len(server.received) for server in (expired, foreign, unknown)] == [0, 0, 0]
    assert [server.connections for server in (expired, foreign, unknown)] == [0, 0, 0]


SILENT = """\
version: 1
name: silent
client: {base_url: "http://127.0.0.1:PORT", allow_hosts: [nowhere.invalid]}
resources:
  - {name: closed, endpoint: r}
  - {name: unknown, endpoint: {url: "http://nowhere.invalid/r"}}
  - {name: denied, endpoint: {url: "DENIED/r"}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""


async def test_the_first_failure_of_a_host_is_shown_at_once(tmp_path: Path) -> None:
    """In the words of the system or the server, and not as a rate limit."""

    async def deny(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(401, b'{"message": "Bad credentials"}', ("Content-Type", "application/json")))

    async with serving(deny) as denied:
        async with serving(deny) as closed:
            text = SILENT.replace("PORT", str(closed.port)).replace("DENIED", denied.url)
        (tmp_path / "silent.yaml").write_text(text)
        command = Command(tmp_path, "silent.yaml")
        output = await asyncio.to_thread(command.run, "--workers", "2", "--for", "2s", code=5)
    assert output.count(f"host   127.0.0.1:{closed.port}: Connection refused; trying again") == 1
    assert output.count("host   nowhere.invalid: ") == 1
    assert output.count(f"host   127.0.0.1:{denied.port}: 401 Unauthorized: Bad credentials") == 1
    assert "waiting for default" not in output
    assert "no limit closed" in output
