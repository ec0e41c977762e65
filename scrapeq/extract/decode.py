"""Decodes response bodies: as the resource says, else as the response declares, else by the first bytes."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from scrapeq.errors import BrokenBody, ExtractError
from scrapeq.extract.rows import csv_rows, json_lines, likely_delimiter
from scrapeq.extract.unpack import decompress
from scrapeq.page import Page
from scrapeq.plan import Decoder

ORJSON_DEPTH = 254  # the most levels that orjson writes
MAX_NESTING = 200
"""Deeper values could be read, but not be queued or written again."""

DEFAULT_MAX_BYTES = 64_000_000

_UTF8_BOM = b"\xef\xbb\xbf"
_JSON_FIRST_BYTES = frozenset(b'{["-0123456789tfn')
_JSONL_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines", "text/jsonl"}
)
_CSV_TYPES = frozenset(
    {"text/csv", "application/csv", "text/x-csv", "application/x-csv", "text/tab-separated-values"}
)
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
    A decoded body: a value, or rows that are read one by one.

    `is_text`: the value is the text itself. `is_tree`: the value is XML, with one root around everything.
    """

    value: Any = None
    rows: Callable[[], Iterator[Any]] | None = None
    is_text: bool = False
    is_tree: bool = False

    def whole(self) -> Any:
        """Return the value; rows as a list, or None if there are none."""
        return self.value if self.rows is None else (list(self.rows()) or None)


def decode(page: Page, decoder: Decoder, max_bytes: int = DEFAULT_MAX_BYTES) -> Body:
    """
    Decode a body; an empty one is None.

    Args:
        page: The response.
        decoder: How to read it.
        max_bytes: The most bytes that a compressed file may decompress to.

    Raises:
        BrokenBody: the body is cut off or damaged. (Rows raise it while they are read.)
        ExtractError: the body is not what the decoder expects.
    """
    body, member = decompress(page.body, decoder.compression, max_bytes)
    reader = _BodyReader(page, body, member, decoder)
    kind = decoder.type
    if kind == "auto":
        return reader.detect()
    if kind == "text":
        return Body(reader.text(), is_text=True)
    if kind == "csv":
        return reader.csv(decoder.delimiter)
    if kind == "xml":
        return reader.xml()
    return reader.lines() if kind == "jsonl" else reader.json()


def encodable(text: str) -> str:
    """Return the text with `?` for what UTF-8 cannot encode: lone surrogates, from some charsets and headers."""
    return text if text.isascii() else text.encode(errors="replace").decode()


class _BodyReader:
    """Reads one body."""

    def __init__(self, page: Page, body: bytes, member: str, decoder: Decoder) -> None:
        self._page = page
        self._body = body
        self._kind = (page.header("content-type") or "").partition(";")[0].strip().lower()
        if self._kind in _GENERIC_TYPES:
            self._kind = _type_by_name(member or urlsplit(page.url).path) or self._kind
        self._encoding = decoder.encoding

    def detect(self) -> Body:
        body, kind = self._utf8(), self._kind
        start = body.lstrip()[:1]
        if not start:
            return Body()
        if kind in _JSONL_TYPES:
            return self.lines()
        if kind.endswith("json"):
            return self.json()
        if kind in _CSV_TYPES:
            return self.csv("\t" if kind == "text/tab-separated-values" else "")
        if kind in _XML_TYPES or (kind.endswith("+xml") and kind not in _HTML_TYPES):
            return self.xml()
        if start[0] in _JSON_FIRST_BYTES:
            try:
                return self.json()
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
            "set `decoder: text` to take it as it is"
        )

    def text(self) -> str:
        if self._encoding:
            return encodable(self._body.decode(self._encoding, "replace").removeprefix("\ufeff"))
        if self._body is self._page.body:
            return encodable(self._page.text)
        return encodable(self._body.decode(self._charset() or "utf-8", "replace"))

    def json(self) -> Body:
        body = self._utf8()
        if not body.strip():
            return Body()
        try:
            value = orjson.loads(body)
        except ValueError as error:
            declared = f" ({self._kind})" if self._kind else ""
            broken = BrokenBody(f"the response{declared} is not valid JSON: {error}")
            broken.is_cut_off = isinstance(error, orjson.JSONDecodeError) and error.pos >= len(error.doc)
            raise broken from None
        return Body(check_depth(value, body))

    def lines(self) -> Body:
        body = self._utf8()
        return Body(rows=lambda: json_lines(body, check_depth))

    def csv(self, delimiter: str) -> Body:
        body, encoding = self._body, self._encoding or self._charset() or "utf-8"
        if body.startswith(_UTF8_BOM) and codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"
        delimiter = delimiter or likely_delimiter(body, encoding)
        return Body(rows=lambda: csv_rows(body, encoding, delimiter))

    def xml(self) -> Body:
        from scrapeq.extract.xml_tree import xml_tree  # imported late: few plans need it

        if not self._body.strip():
            return Body()
        encoding = self._encoding or self._charset()
        tree = xml_tree(self._body.decode(encoding, "replace") if encoding else self._body)
        return Body(check_depth(tree, self._body), is_tree=True)

    def _charset(self) -> str:
        """Return the declared charset if Python has a text codec for it, else an empty string."""
        for part in (self._page.header("content-type") or "").split(";")[1:]:
            name, _, value = part.strip().partition("=")
            if name.strip().lower() == "charset":
                declared = value.strip().strip("\"'")
                try:
                    b"".decode(declared)
                except (LookupError, UnicodeError, ValueError):
                    return ""
                return declared
        return ""

    def _utf8(self) -> bytes:
        """Return the body as UTF-8 (RFC 8259, 8.1), converted from its charset if that is another one."""
        body = self._body
        if self._encoding:
            return self.text().encode(errors="replace")
        if body.startswith(_UTF8_BOM):
            return body[len(_UTF8_BOM) :]
        charset = self._charset()
        if charset and codecs.lookup(charset).name != "utf-8":
            return self.text().lstrip("\ufeff").encode(errors="replace")
        return body


def check_depth(value: Any, body: bytes) -> Any:
    """
    Return the value unless it is nested too deeply. Few bodies have enough brackets to need the full check.

    Raises:
        ExtractError: it is nested too deeply.
    """
    if body.count(b"[") + body.count(b"{") + body.count(b"<") <= MAX_NESTING:
        return value
    deeper = value
    for _ in range(ORJSON_DEPTH - MAX_NESTING):
        deeper = [deeper]
    try:
        orjson.dumps(deeper)
    except TypeError:
        raise ExtractError(f"the response is nested more than {MAX_NESTING} levels deep") from None
    return value


def _type_by_name(path: str) -> str:
    """Return the media type for a file name: `rates.csv.gz` is CSV."""
    name = path.rpartition("/")[2].lower()
    for packed in (".gz", ".zip", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(packed)
    dot = name.rfind(".")
    return "" if dot < 0 else _SUFFIXES.get(name[dot:], "")
