"""Finds the character encoding of a response body: byte order mark, declaration in the header, declaration inside."""

from __future__ import annotations

import codecs
import re

DEFAULT_ENCODING = "utf-8"

_BYTE_ORDER_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SUPERSETS = {  # the label that servers write -> what they send (WHATWG Encoding Standard, 4.2)
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "windows-31j": "cp932",
    "windows-949": "cp949",
    "iso-8859-8-i": "iso-8859-8",
    "unicode": "utf-16-le",
}
_PROLOG_BYTES = 1024
_XML_DECLARATION = re.compile(rb"\s*<\?xml[^>]*?\sencoding\s*=\s*[\"']([\w.:-]+)", re.ASCII)
_META = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)", re.ASCII | re.I)


def encoding_of(body: bytes, content_type: str = "", encoding: str = "") -> str:
    """
    Return the name of a Python codec for a body, which also removes a byte order mark.

    In this order: the configured encoding, a byte order mark, the charset of the Content-Type, the declaration in an
    XML or HTML document, UTF-16 if every second byte of the start is zero, UTF-8. Unknown names count as absent.

    Args:
        body: The body.
        content_type: The value of the Content-Type header.
        encoding: The configured encoding; empty = none.
    """
    marked = next((name for mark, name in _BYTE_ORDER_MARKS if body.startswith(mark)), "")
    if encoding:
        wanted = codecs.lookup(encoding).name
        # utf-16-le keeps the mark as a character; utf-16 removes it
        is_same = marked and wanted.startswith(marked.removesuffix("-sig"))
        return marked if is_same else _with_byte_order(_SUPERSETS.get(wanted, wanted), body)
    if marked:
        return marked
    declared = _codec(_charset(content_type))
    if declared:
        return _with_byte_order(declared, body)
    if body[:2].count(0) == 1 and len(body) > 1:
        wide = body[:4].count(0) == 3
        return f"utf-{32 if wide else 16}-{'be' if body[0] == 0 else 'le'}"
    inside = _XML_DECLARATION.match(body, 0, _PROLOG_BYTES)
    if inside is None and "html" in content_type.lower():
        inside = _META.search(body, 0, _PROLOG_BYTES)
    found = _codec(inside[1].decode("ascii")) if inside else ""
    # A document whose declaration can be read as ASCII is not in UTF-16, whatever it says.
    return DEFAULT_ENCODING if not found or found.startswith(("utf-16", "utf-32")) else found


def _with_byte_order(name: str, body: bytes) -> str:
    """Return a codec that needs no byte order mark: without one, UTF-16 begins with the lower byte."""
    return f"{name}-{'be' if body[:1] == bytes(1) else 'le'}" if name in ("utf-16", "utf-32") else name


def decoded(body: bytes, content_type: str = "", encoding: str = "") -> str:
    """Return the body as text; what the encoding cannot read, and lone surrogates, are U+FFFD."""
    return encodable(body.decode(encoding_of(body, content_type, encoding), "replace"))


def encodable(text: str) -> str:
    """Return the text with U+FFFD for what UTF-8 cannot encode: lone surrogates, from some charsets and headers."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _charset(content_type: str) -> str:
    """Return the charset parameter of a Content-Type; empty if there is none."""
    for part in content_type.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'")
    return ""


def _codec(label: str) -> str:
    """Return the name of Python's text codec for a charset; empty if there is none."""
    for name in (label, label.lower().removeprefix("x-")):
        name = _SUPERSETS.get(name.lower(), name)
        try:
            if name and b"\xff\xfe\x00\x00".decode(name, "replace") is not None:
                found = codecs.lookup(name).name
                return _SUPERSETS.get(found, found)
        except (LookupError, UnicodeError, ValueError, TypeError, AssertionError, ImportError):
            continue
    return ""
