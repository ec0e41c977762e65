"""A sink, a paginator and a credential for scrapeq. pyproject.toml names them; docs/extending.md explains them."""

import hashlib
import hmac
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from scrapeq import Page
from scrapeq.plan import Output
from scrapeq.protocols import Change, PageRequest
from scrapeq.sink import BatchSink, Record, SinkContext


class MarkdownSink(BatchSink):
    """One file per record: `{type: markdown, folder: notes, title: title}`. A changed record replaces its file."""

    default = "merge"

    def __init__(self, output: Output, context: SinkContext) -> None:
        super().__init__(output, context)
        self.folder: Path = context.base / output.options.get("folder", "notes")
        self.heading: str = output.options.get("title", "title")

    def open_target(self) -> None:
        """Create the folder if it is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def write_batch(self, records: Sequence[Record]) -> None:
        """Write each record to a file named by its identity, so that writing it twice changes nothing."""
        for record in records:
            fields = record.item.record
            lines = [f"# {fields.get(self.heading, record.item.key)}", ""]
            lines += [f"- {name}: {value}" for name, value in fields.items()]
            path = self.folder / f"{record.item.resource}-{record.key.hex()[:12]}.md"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def continuation(
    page: Page, body: Any, records: Sequence[Any], request: PageRequest, options: Mapping[str, Any]
) -> Change | None:
    """The next page by a response header: `paginator: {type: continuation, header: X-Continuation}`."""
    token = page.header(options.get("header", "X-Continuation"))
    return Change(params={options.get("param", "continuation"): token}) if token else None


class HmacAuth(httpx.Auth):
    """Signs each request: `auth: {type: acme_hmac, key_id: me, secret: "${env:ACME_SECRET}"}`."""

    def __init__(self, key_id: str, secret: str) -> None:
        self.key_id = key_id
        self.secret = secret.encode()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header X-Signature: the key id, and a digest of method and path."""
        text = f"{request.method} {request.url.raw_path.decode()}".encode()
        digest = hmac.new(self.secret, text, hashlib.sha256).hexdigest()
        request.headers["X-Signature"] = f"{self.key_id}:{digest}"
        yield request
