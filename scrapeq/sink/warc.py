"""
Whole answers as WARC 1.1 (ISO 28500:2017), each record a gzip member: a request and a response for each page.

A page is kept as it was read: decoded, so without Content-Encoding and Transfer-Encoding, and with its own
Content-Length. Of the request there is its line and its host; credentials and cookies are in neither record.
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

PART_BYTES = 1_000_000_000  # what the standard recommends for a file
ENDING = ".warc.gz"
# what no longer describes the body, and what is a credential
LEFT_OUT = frozenset(
    {"content-encoding", "transfer-encoding", "content-length", "set-cookie", "set-cookie2", "authorization"}
)


class WarcSink(FileSink):
    """An output of WARC files, `<name>-00001.warc.gz` and so on, in the folder of its path."""

    captures_responses = True
    default = "append"
    packs = False  # each record is a member of its own

    def __init__(self, output: plan.Output, context: SinkContext) -> None:
        if output.rotate_bytes is None:
            output = replace(output, rotate_bytes=PART_BYTES)
        super().__init__(output, context, inside=f"{context.name or 'pages'}{ENDING}")

    def stage(self, records: Sequence[Record], answers: Sequence[CapturedResponse]) -> Iterable[bool]:
        """Take in the answers that are new; items go elsewhere."""
        for answer in answers:
            if not self.output.resources or answer.resource in self.output.resources:
                self._take_answer(answer)
        return [False] * len(records)

    def _take_answer(self, answer: CapturedResponse) -> None:
        path = self.place.path(answer.resource, answer.seed)
        file = self.files.get(path) or self.file_at(path)
        page = answer.page
        which = digest_of(f"{page.method} {page.url}".encode(errors="replace"))
        # `append`: one answer a task, whatever it says when it is asked for again after a kill
        what = b"" if self.append else digest_of(f"{page.status} ".encode() + page.body)
        item = Item(answer.resource, "", {})
        if file.seen.is_new(Record(answer.task_id, item, b"", b"" if self.append else which, what)):
            file.pieces.append(_records(answer))
            self.touch(file)

    def write_file(self, file: AppendedFile) -> None:
        """Each part begins with what it is."""
        file.append(head=_head)


def _head(path: Path) -> bytes:
    """The warcinfo record of a part."""
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True, warc_version="WARC/1.1")
    info = {"software": f"scrapeq/{__version__}", "format": "WARC File Format 1.1"}
    writer.write_record(writer.create_warcinfo_record(path.name, info))
    return out.getvalue()


def _records(answer: CapturedResponse) -> bytes:
    """The response and its request, two members."""
    page = answer.page
    address = urlsplit(page.url)
    host = address.netloc.rpartition("@")[2]
    url = urlunsplit(address._replace(netloc=host))
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True, warc_version="WARC/1.1")
    headers = [(name, value) for name, value in page.headers if name.lower() not in LEFT_OUT]
    headers.append(("Content-Length", str(len(page.body))))
    status = StatusAndHeaders(_status(page.status), headers, protocol="HTTP/1.1")
    response = writer.create_warc_record(
        url, "response", payload=io.BytesIO(page.body), length=len(page.body), http_headers=status
    )
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    asked = StatusAndHeaders(f"{page.method} {target} HTTP/1.1", [("Host", host)], is_http_request=True)
    request = writer.create_warc_record(url, "request", http_headers=asked)
    writer.write_request_response_pair(request, response)
    return out.getvalue()


def _status(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} "
