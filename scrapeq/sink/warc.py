"""
Whole responses as WARC 1.1 (ISO 28500:2017): a response and a request record per page, each a gzip member.

The body is stored decoded, so Content-Encoding and Transfer-Encoding are left out, and Content-Length is that of the
decoded body. The request record has only the request line and Host. Neither record has credentials or cookies.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from scrapeq import plan
from scrapeq.protocols import Item
from scrapeq.sink.appended import AppendedFile
from scrapeq.sink.files import FileSink
from scrapeq.sink.output import CapturedResponse, Record, SinkContext
from scrapeq.sink.seen import digest_of
from scrapeq.version import __version__

PART_BYTES = 1_000_000_000  # the file size that the standard recommends
SUFFIX = ".warc.gz"
# headers that no longer describe the body, and credentials
OMITTED_HEADERS = frozenset(
    {"content-encoding", "transfer-encoding", "content-length", "set-cookie", "set-cookie2", "authorization"}
)


class WarcSink(FileSink):
    """An output of WARC files, `<plan name>-00001.warc.gz` and so on, in the folder at its path."""

    captures_responses = True
    default = "append"
    compresses = False  # warcio compresses each record by itself

    def __init__(self, output: plan.Output, context: SinkContext) -> None:
        if output.rotate_bytes is None:
            output = replace(output, rotate_bytes=PART_BYTES)
        super().__init__(output, context, file_name=f"{context.name or 'pages'}{SUFFIX}")

    def stage(self, records: Sequence[Record], responses: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Add the responses that are new. Items go to other outputs."""
        for response in responses:
            if not self.output.resources or response.resource in self.output.resources:
                self._add_response(response)
        return [False] * len(records)

    def _add_response(self, response: CapturedResponse) -> None:
        path = self.output_path.path(response.resource, response.seed)
        file = self.files.get(path) or self.open_file(path)
        page = response.page
        key = digest_of(f"{page.method} {page.url}".encode(errors="replace"))
        # With `append`, a task has one response, even if a repetition after a crash gets another one.
        digest = b"" if self.append else digest_of(f"{page.status} ".encode() + page.body)
        item = Item(response.resource, "", {})
        if file.seen.add_if_new(Record(response.task_id, item, b"", b"" if self.append else key, digest)):
            file.pieces.append(_records(response))
            self.mark_changed(file)

    def write_file(self, file: AppendedFile) -> None:
        """Write the records; each part starts with a warcinfo record."""
        file.append(header=_warcinfo)


def _warcinfo(path: Path) -> bytes:
    """Return the warcinfo record of a part."""
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True, warc_version="WARC/1.1")
    info = {"software": f"scrapeq/{__version__}", "format": "WARC File Format 1.1"}
    writer.write_record(writer.create_warcinfo_record(path.name, info))
    return out.getvalue()


def _records(captured: CapturedResponse) -> bytes:
    """Return the response record and its request record."""
    page = captured.page
    address = urlsplit(page.url)
    host = address.netloc.rpartition("@")[2]
    url = urlunsplit(address._replace(netloc=host))
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True, warc_version="WARC/1.1")
    headers = [
        (name.encode("ascii", "replace").decode(), _storable(value))
        for name, value in page.headers
        if name.lower() not in OMITTED_HEADERS
    ]
    headers.append(("Content-Length", str(len(page.body))))
    status = StatusAndHeaders(_status(page.status), headers, protocol="HTTP/1.1")
    response = writer.create_warc_record(
        url, "response", payload=io.BytesIO(page.body), length=len(page.body), http_headers=status
    )
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    request_line = StatusAndHeaders(
        f"{page.method} {target} HTTP/1.1", [("Host", host)], is_http_request=True
    )
    request = writer.create_warc_record(url, "request", http_headers=request_line)
    writer.write_request_response_pair(request, response)
    return out.getvalue()


def _storable(value: str) -> str:
    """Return a header value as UTF-8 text; bytes that are not become U+FFFD."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _status(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} "
