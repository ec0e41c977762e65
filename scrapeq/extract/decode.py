"""Decodes response bodies: as the resource says, else as the response declares, else by the first bytes."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from scrapeq.charsets import decoded, encoding_of
from scrapeq.errors import BrokenBody, ExtractError
from scrapeq.extract.other_content import check_content, own_words
from scrapeq.extract.rows import Table, csv_rows, json_lines, likely_delimiter
from scrapeq.extract.unpack import decompress, members
from scrapeq.json_values import Repairs, read_json, read_json_values, without_guard
from scrapeq.page import Page
from scrapeq.plan import Decoder

MAX_NESTING = 200
"""Deeper values could be read, but not be queued or written again."""

DEFAULT_MAX_BYTES = 64_000_000

MEMORY_FACTOR = 8
"""The memory for reading a page, in units of `client.max_body_size`."""

_CHEAP_BYTES = 1_000_000
_CONTAINER_BYTES, _ELEMENT_BYTES = 56, 8  # at least, of an empty list or object, and of an element
_SNIFFED_BYTES = 65_536
_FILE_NAME = re.compile(r"filename\*?\s*=\s*(\"[^\"]*\"|[^;]*)", re.IGNORECASE)

_JSON_FIRST_BYTES = frozenset(b'{["-0123456789tfn')
_JSONL_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines", "text/jsonl"}
)
_CSV_TYPES = frozenset({"text/csv", "application/csv", "text/x-csv", "application/x-csv"})
_TSV_TYPES = frozenset({"text/tab-separated-values", "text/tsv"})
_XML_TYPES = frozenset({"application/xml", "text/xml"})
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_TEXT_TYPES = frozenset({"text/plain", "text/markdown"})
_GENERIC_TYPES = frozenset(  # they say only that it is a file; its name says more
    {
        "",
        "application/octet-stream",
        "binary/octet-stream",
        "application/gzip",
        "application/x-gzip",
        "application/zip",
        "application/x-zip-compressed",
        "application/force-download",
        "application/vnd.ms-excel",
        "text/plain",
    }
)
_SUFFIXES = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".jsonl": "text/jsonl",
    ".ndjson": "text/jsonl",
    ".xml": "text/xml",
    ".txt": "text/plain",
}


@dataclass(frozen=True, slots=True)
class Body:
    """
    A decoded body: a value, rows that are read one by one, or the bodies of the files in an archive.

    `is_text`: the value is the text itself. `is_tree`: the value is XML, with one root around everything. `repairs`:
    a sentence for each kind of thing that was not as the format has it; rows add to it while they are read.
    """

    value: Any = None
    rows: Callable[[], Iterator[Any]] | None = None
    is_text: bool = False
    is_tree: bool = False
    files: Callable[[], Iterator[Body]] | None = None
    repairs: Repairs = field(default_factory=dict, compare=False)

    def records(self, records_in: Callable[[Any, Body], list[Any]]) -> Iterator[Any]:
        """Yield the rows, or the records of all files in an archive, one by one."""
        if self.files is not None:
            for one in self.files():
                yield from one.records(records_in)
        else:
            yield from records_in(self.value, self) if self.rows is None else self.rows()

    def whole(self) -> Any:
        """Return the value; rows as a list, or None if there are none; of an archive, a list of its files' values."""
        if self.files is not None:
            return [one.whole() for one in self.files()]
        return self.value if self.rows is None else (list(self.rows()) or None)


def decode(page: Page, decoder: Decoder, max_bytes: int = DEFAULT_MAX_BYTES) -> Body:
    """
    Decode a body; an empty one is None.

    Args:
        page: The response.
        decoder: How to read it.
        max_bytes: The most bytes that a compressed file may decompress to.

    Raises:
        BrokenBody: the body is cut off, damaged, or other content. (Rows and files raise it while they are read.)
        ExtractError: the body is not what the decoder expects.
    """
    repairs: Repairs = {}
    if not decoder.files:
        body, member = decompress(page.body, decoder.compression, max_bytes)
        return _read(page, body, member, decoder, max_bytes, repairs)

    def files() -> Iterator[Body]:
        for body, member in members(page.body, decoder.files, max_bytes):
            yield _read(page, body, member, replace(decoder, files=""), max_bytes, repairs)

    return Body(files=files, repairs=repairs)


def _read(page: Page, body: bytes, member: str, decoder: Decoder, max_bytes: int, repairs: Repairs) -> Body:
    reader = _BodyReader(page, body, member, decoder, max_bytes, repairs)
    kind = decoder.type
    if kind == "auto":
        return reader.detect()
    if kind == "text":
        return Body(reader.text(), is_text=True)
    if kind in ("csv", "tsv"):
        return reader.csv(decoder.delimiter or ("," if kind == "csv" else "\t"), has_quotes=kind == "csv")
    if kind == "xml":
        return reader.xml()
    return reader.lines() if kind == "jsonl" else reader.json()


class _BodyReader:
    """Reads one body."""

    def __init__(
        self, page: Page, body: bytes, member: str, decoder: Decoder, max_bytes: int, repairs: Repairs
    ) -> None:
        self._page = page
        self._body = body
        self._content_type = page.header("content-type") or ""
        self._kind = self._content_type.partition(";")[0].strip().lower()
        if self._kind in _GENERIC_TYPES:
            names = (member, _file_name(page), urlsplit(page.url).path)
            self._kind = next((kind for kind in map(_type_by_name, names) if kind), self._kind)
        self._decoder = decoder
        self._max_bytes = max_bytes
        self._repairs = repairs

    def detect(self) -> Body:
        body, kind = self._utf8(), self._kind
        start = without_guard(body).lstrip()[:1]
        if not start:
            return Body()
        if kind in _JSONL_TYPES:
            return self.lines()
        if kind.endswith("json"):
            return self.json()
        if kind in _CSV_TYPES:
            return self.csv(self._decoder.delimiter, has_quotes=True)
        if kind in _TSV_TYPES:
            return self.csv(self._decoder.delimiter or "\t", has_quotes=False)
        if kind in _XML_TYPES or (kind.endswith("+xml") and kind not in _HTML_TYPES):
            return self.xml()
        if start[0] in _JSON_FIRST_BYTES:
            try:
                return self.json(is_certain=kind not in _TEXT_TYPES)
            except ExtractError as error:
                if start == b"{" and b"\n" in body.strip():
                    return self.lines()
                is_cut_off = isinstance(error, BrokenBody) and error.is_cut_off and start in b"{["
                if kind not in _TEXT_TYPES or is_cut_off:
                    raise error if start in b"{[" else ExtractError(str(error)) from None
        if body.lstrip()[:5].lower() == b"<?xml" and kind not in _HTML_TYPES:
            return self.xml()
        if kind in _TEXT_TYPES:
            return Body(self.text(), is_text=True)
        raise ExtractError(
            f"the response is not JSON but {kind or 'of an undeclared type'}; "
            f"set `decoder: text` to take it as it is{own_words(body)}"
        )

    def text(self) -> str:
        return decoded(self._body, self._content_type, self._decoder.encoding)

    def json(self, *, is_certain: bool = True) -> Body:
        """Return the body as JSON. Without certainty that it is JSON, nothing may follow the value."""
        body = self._utf8()
        if not body.strip():
            return Body()
        check_cost(body, self._max_bytes)
        try:
            value = read_json(body, self._repairs if is_certain else None)
        except ValueError as error:
            if is_certain and (several := self._several_values(body)):
                return several
            declared = f" ({self._kind})" if self._kind else ""
            broken = BrokenBody(f"the response{declared} is not valid JSON: {error}{own_words(body)}")
            broken.is_cut_off = isinstance(error, json.JSONDecodeError) and error.pos >= len(error.doc)
            raise broken from None
        return Body(check_depth(value, body), repairs=self._repairs)

    def _several_values(self, body: bytes) -> Body | None:
        """Return the body as rows if it has several objects or lists, whatever its media type says."""
        try:
            values = read_json_values(body, self._repairs)
        except ValueError:
            return None
        return Body(rows=lambda: iter([check_depth(value, body) for value in values]), repairs=self._repairs)

    def lines(self) -> Body:
        body = self._utf8()
        check_content(body[:_SNIFFED_BYTES], "JSON Lines", self._kind)
        return Body(rows=lambda: json_lines(body, check_depth, self._repairs), repairs=self._repairs)

    def csv(self, delimiter: str, *, has_quotes: bool) -> Body:
        body, decoder = self._body, self._decoder
        encoding = encoding_of(body, self._content_type, decoder.encoding)
        check_content(body[:_SNIFFED_BYTES].decode(encoding, "replace").encode(), "CSV", self._kind)
        table = Table(
            encoding,
            delimiter or likely_delimiter(body, encoding),
            has_quotes=has_quotes if decoder.quoting is None else decoder.quoting,
            header=decoder.header,
            skip_lines=decoder.skip_lines,
        )
        return Body(rows=lambda: csv_rows(body, table, self._repairs), repairs=self._repairs)

    def xml(self) -> Body:
        from scrapeq.extract.xml_tree import xml_tree  # imported late: few plans need it

        if not self._body.strip():
            return Body()
        text = self.text()
        check_content(text[:_SNIFFED_BYTES].encode(), "XML", self._kind)
        tree = xml_tree(text, self._repairs)
        return Body(check_depth(tree, self._body), is_tree=True, repairs=self._repairs)

    def _utf8(self) -> bytes:
        """Return the body as UTF-8 (RFC 8259, 8.1) without a byte order mark, converted from its charset."""
        encoding = encoding_of(self._body, self._content_type, self._decoder.encoding)
        if encoding == "utf-8":
            return self._body
        if encoding == "utf-8-sig":
            return self._body.removeprefix(codecs.BOM_UTF8)
        return self.text().removeprefix("\ufeff").encode()


def check_depth(value: Any, body: bytes) -> Any:
    """
    Return the value unless it is nested too deeply. Few bodies have enough brackets to need the full check.

    Raises:
        ExtractError: it is nested too deeply.
    """
    if body.count(b"[") + body.count(b"{") + body.count(b"<") <= MAX_NESTING:
        return value
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_NESTING):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return value
    raise ExtractError(f"the response is nested more than {MAX_NESTING} levels deep")


def check_cost(body: bytes, max_bytes: int) -> None:
    """
    Refuse JSON that would certainly take too much memory, before any of it is taken.

    Args:
        body: The body.
        max_bytes: `client.max_body_size`.

    Raises:
        ExtractError: its lists, objects and elements alone take more than MEMORY_FACTOR times `max_bytes`.
    """
    if len(body) < _CHEAP_BYTES:
        return
    containers = body.count(b"[") + body.count(b"{")
    if containers * _CONTAINER_BYTES + body.count(b",") * _ELEMENT_BYTES > MEMORY_FACTOR * max_bytes:
        raise ExtractError(
            f"the page is given up: its {containers:,} lists and objects take more than {MEMORY_FACTOR * max_bytes:,} "
            f"bytes of memory, {MEMORY_FACTOR} times client.max_body_size; raise that to allow more"
        )


def _file_name(page: Page) -> str:
    """Return the name of the file that the response states (RFC 6266); empty if it states none."""
    found = _FILE_NAME.search(page.header("content-disposition") or "")
    return found[1].strip("\"' ") if found else ""


def _type_by_name(path: str) -> str:
    """Return the media type for a file name: `rates.csv.gz` is CSV."""
    name = path.rpartition("/")[2].lower()
    for packed in (".gz", ".zip", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(packed)
    dot = name.rfind(".")
    return "" if dot < 0 else _SUFFIXES.get(name[dot:], "")
