"""Decoding of bodies: by the resource, by the declared media type, and by the first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import time
import tracemalloc
import zipfile
from typing import Any

import pytest
import zstandard

from scrapeq.errors import BrokenBody, ExtractError
from scrapeq.extract.decode import Body, decode
from scrapeq.extract.unpack import decompress
from scrapeq.page import Page
from scrapeq.plan import Decoder


def page(body: bytes, kind: str = "application/json") -> Page:
    """Return a response of this media type."""
    return Page("https://a.test/", 200, (("Content-Type", kind),) if kind else (), body)


@pytest.mark.parametrize(
    ("decoder", "kind", "body", "value"),
    [
        ("auto", "application/json", b'{"a":1}', {"a": 1}),
        ("auto", "application/vnd.api+json; charset=utf-8", b"[1]", [1]),
        ("auto", "", b' \n{"a":1}', {"a": 1}),
        ("auto", "text/html", b"[1]", [1]),
        ("auto", "application/x-ndjson", b'{"a":1}\n\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
        ("auto", "text/plain", b'{"a":1}\r\n{"a":2}', [{"a": 1}, {"a": 2}]),
        ("auto", "application/json", b"", None),
        ("auto", "text/html", b" \n", None),
        ("json", "text/html", b"null", None),
        ("json", "", b"", None),
        ("json", "", b"\xef\xbb\xbf[1]", [1]),
        ("json", "application/json; charset=utf-16", '["ü"]'.encode("utf-16"), ["ü"]),
        ("json", "application/json; charset=latin-1", '["ü"]'.encode("latin-1"), ["ü"]),
        ("jsonl", "", b"1\n2", [1, 2]),
        ("jsonl", "", b"", None),
    ],
)
def test_json_is_recognized_whatever_its_media_type(decoder: Any, kind: str, body: bytes, value: Any) -> None:
    """JSON may be undeclared, misdeclared, in another charset, with a byte order mark, or one value per line."""
    assert decode(page(body, kind), Decoder(decoder)).whole() == value


@pytest.mark.parametrize(("decoder", "kind"), [("text", "text/html"), ("auto", "text/plain")])
def test_text_is_not_parsed(decoder: Any, kind: str) -> None:
    """A body is text if that is configured, or if the response declares text and the body is not JSON."""
    assert decode(page("für".encode(), kind), Decoder(decoder)) == Body("für", is_text=True)


@pytest.mark.parametrize(
    ("decoder", "kind", "body", "message"),
    [
        (
            "json",
            "application/json",
            b"{",
            r"the response \(application/json\) is not valid JSON: .*line 1 column 2",
        ),
        ("json", "text/html", b"<html>", r"the response \(text/html\) is not valid JSON"),
        ("jsonl", "", b'{"a":1}\n{"a":', "line 2 of the response is not valid JSON"),
        (
            "auto",
            "text/html; charset=utf-8",
            b"<html>",
            "the response is not JSON but text/html; set `decoder: text`",
        ),
        ("auto", "", b"\x00\x01", "the response is not JSON but of an undeclared type"),
        ("auto", "application/json", b"<html>", "not valid JSON"),
        ("auto", "", b"{broken", "not valid JSON"),
        ("json", "", b"[" * 250 + b"]" * 250, "nested more than 200 levels deep"),
        ("json", "", b"[" * 5000 + b"]" * 5000, "not valid JSON: depth"),
        ("jsonl", "", b"1\n" + b'{"a":' * 230 + b"1" + b"}" * 230, "nested more than 200 levels deep"),
    ],
)
def test_undecodable_bodies_raise_a_named_error(decoder: Any, kind: str, body: bytes, message: str) -> None:
    """The error names the received type and the position of the mistake."""
    with pytest.raises(ExtractError, match=message):
        decode(page(body, kind), Decoder(decoder)).whole()


def test_brackets_in_strings_do_not_count_as_nesting() -> None:
    """A flat value with many brackets passes."""
    assert decode(page(b'["' + b"[{" * 1000 + b'"]'), Decoder("json")).whole() == ["[{" * 1000]


def test_text_can_always_be_encoded() -> None:
    """An incomplete character in the charset becomes a replacement character."""
    assert (
        decode(page(b"a\\ud800b", "text/plain; charset=unicode_escape"), Decoder("text")).value == "a\ufffdb"
    )


@pytest.mark.parametrize(
    ("decoder", "kind", "body", "rows"),
    [
        (Decoder("csv"), "", b"a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n", [{"a": "1", "b": 'x, "y"\nz'}]),
        (Decoder("auto"), "text/csv; charset=latin-1", "ä;b\n1;ü".encode("latin-1"), [{"ä": "1", "b": "ü"}]),
        (Decoder("auto"), "text/tab-separated-values", b"a\tb\n1\t2", [{"a": "1", "b": "2"}]),
        (Decoder("csv", ";"), "text/plain", b"\xef\xbb\xbfa;b\n1;2,5", [{"a": "1", "b": "2,5"}]),
        (Decoder("csv", encoding="utf-16"), "text/csv; charset=utf-8", "a\n1".encode("utf-16"), [{"a": "1"}]),
        (Decoder("csv"), "", b"a,a,,b\n1,2,3\n\n4,5,6,7,8\n", [
            {"a": "1", "a_2": "2", "column_3": "3", "b": None},
            {"a": "4", "a_2": "5", "column_3": "6", "b": "7", "_more": ["8"]},
        ]),
        (Decoder("csv"), "", b"a,b\n", None),
        (Decoder("csv"), "", b"", None),
        (Decoder("csv"), "", b"a\n" + b"x" * 200_000, [{"a": "x" * 200_000}]),
        (Decoder("auto"), "application/octet-stream", b"a\n1", "no name"),
    ],
)  # fmt: skip
def test_csv_rows_are_maps_of_text(decoder: Decoder, kind: str, body: bytes, rows: Any) -> None:
    """Covers quotes, delimiters, encodings, and columns without a name or with the same name."""
    response = page(body, kind)
    if rows == "no name":
        response, rows = Page("https://a.test/f.csv?x=1", 200, response.headers, body), [{"a": "1"}]
    assert decode(response, decoder).whole() == rows


@pytest.mark.parametrize("kind", ["application/xml", "text/xml; charset=utf-8", "application/atom+xml", ""])
def test_xml_is_a_tree(kind: str) -> None:
    """Covers attributes, text beside them, repeated elements, prefixed names, and a declared encoding."""
    body = """<?xml version="1.0" encoding="latin-1"?><r xmlns:m="u"><i id="1">ü</i><i/><m:t>x</m:t></r>"""
    raw = body.encode("latin-1") if "utf-8" not in kind else body.encode()
    tree = decode(page(raw, kind), Decoder()).value
    assert tree == {"r": {"@xmlns:m": "u", "i": [{"@id": "1", "#text": "ü"}, None], "m:t": "x"}}


LAUGHS = (
    b'<!DOCTYPE a [<!ENTITY l0 "ha">'
    + b"".join(b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 10))
    + b"]><a>&l9;</a>"
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<a>", "not XML"),
        (LAUGHS, "amplification"),
        (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "external entity b"),
        (b"<a>" * 300 + b"</a>" * 300, "nested more than 200"),
    ],
)
def test_invalid_xml_raises_a_named_error(body: bytes, message: str) -> None:
    """External entities, entities that grow without bound, and unlimited nesting are refused."""
    with pytest.raises(ExtractError, match=message):
        decode(page(body, "text/xml"), Decoder())


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a>&b;</a>', "&b;"),
        (b'<!DOCTYPE a [<!ENTITY b "c"><!ATTLIST a x CDATA "y">]><a>&b;</a>', {"@x": "y", "#text": "c"}),
        (b'\n\n<?xml version="1.0"?><a/>', None),
        (
            b'<!DOCTYPE rss PUBLIC "-//Netscape//DTD" "http://x.test/r.dtd"><a>&eacute;&amp;&nbsp;!</a>',
            "\xe9&\xa0!",
        ),
        (b"<a><![CDATA[&nbsp;]]>&unheard;</a>", "&nbsp;&unheard;"),
        (b'<a x="&copy;"/>', {"@x": "\xa9"}),
        (b"<a>x\x0by</a>", "x\ufffdy"),
        (b"<a>AT&T &#38; &amp; R&D;</a>", "AT&T & & R&D;"),
        (b"<!DOCTYPE a [<!ENTITY % p \"<!ENTITY q 'z'>\"> %p;]><a>x &q;</a>", "x &q;"),
    ],
)
def test_xml_is_read_without_its_external_parts(body: bytes, value: Any) -> None:
    """Declared entities and those of HTML are replaced; a document type in another file is not loaded."""
    assert decode(page(body, "text/xml"), Decoder()).value == {"a": value}


def zip_of(*names: str, body: bytes = b"[1]") -> bytes:
    """Return a zip file with these files in it."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, body)
    return whole.getvalue()


COMPRESSED = {
    "gzip": gzip.compress(b'[1,"', mtime=0) + gzip.compress(b'a"]', mtime=0),
    "zip": zip_of("d/", "d/a.json", "__MACOSX/a", body=b'[1,"a"]'),
    "bz2": bz2.compress(b'[1,"a"]'),
    "xz": lzma.compress(b'[1,"a"]'),
    "zstd": zstandard.compress(b'[1,"a"]'),
}


@pytest.mark.parametrize("compression", COMPRESSED)
def test_files_are_decompressed(compression: Any) -> None:
    """gzip and zip are also recognized by their first bytes; several gzip members are one file."""
    assert decode(
        page(COMPRESSED[compression], "application/x"), Decoder("json", compression=compression)
    ).value == [
        1,
        "a",
    ]
    if compression in ("gzip", "zip"):
        assert decode(page(COMPRESSED[compression], "application/octet-stream"), Decoder()).value == [1, "a"]
    with pytest.raises(ExtractError, match=f"not a complete {compression} file"):
        decode(page(COMPRESSED[compression][:-9], ""), Decoder("json", compression=compression))
    with pytest.raises(ExtractError, match=f"not a complete {compression} file"):
        decode(page(b"[1]", ""), Decoder("json", compression=compression))


def test_the_file_name_gives_the_type_of_a_compressed_file() -> None:
    """The name is in the URL or inside the zip file."""
    csv = b"a,b\n1,2\n"
    named = Page(
        "https://a.test/rates.csv.gz",
        200,
        (("Content-Type", "application/gzip"),),
        gzip.compress(csv, mtime=0),
    )
    assert decode(named, Decoder()).whole() == [{"a": "1", "b": "2"}]
    inside = page(zip_of("rates.csv", body=csv), "application/zip")
    assert decode(inside, Decoder()).whole() == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_decompression_bomb_raises_an_error(compression: Any) -> None:
    """30 MB of zeros in a few KB take no more memory than allowed."""
    pack: dict[str, Any] = {
        "gzip": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zstd": zstandard.compress,
    }
    nothing = bytes(30_000_000)
    bomb = zip_of("a", body=nothing) if compression == "zip" else pack[compression](nothing)
    tracemalloc.start()
    with pytest.raises(ExtractError, match=r"larger than 1000000 bytes; raise client\.max_body_size"):
        decode(page(bomb), Decoder("json", compression=compression), 1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_zip_of_several_files_needs_a_choice() -> None:
    """The error names the files; `files` is a glob, and all chosen files are read in the order of the archive."""
    packed = page(zip_of("a.json", "b/c.json", "d.txt"), "application/zip")
    with pytest.raises(
        ExtractError, match=r"3 files \(a.json, b/c.json, d.txt\); choose with `decoder: {files"
    ):
        decode(packed, Decoder())
    assert decode(packed, Decoder(files="*.json")).whole() == [[1], [1]]
    assert decode(packed, Decoder(files="c.json")).whole() == [[1]]
    with pytest.raises(ExtractError, match=r"none matches `files: \*.csv`"):
        decode(packed, Decoder(files="*.csv")).whole()
    with pytest.raises(ExtractError, match="larger than 5 bytes"):
        decode(packed, Decoder(files="*"), 5).whole()


@pytest.mark.parametrize(
    "member", [gzip.compress(b"", mtime=0), gzip.compress(os.urandom(5000), mtime=0)], ids=["empty", "random"]
)
def test_many_gzip_members_are_read_in_linear_time(member: bytes) -> None:
    """BGZF files, and those of scrapeq, have thousands of members; the rest must not be copied for each."""
    count = 10_000_000 // len(member)
    started_s = time.process_time()
    whole, _ = decompress(member * count, "gzip", 2**31)
    assert len(whole) == count * len(gzip.decompress(member))
    assert time.process_time() - started_s < 20  # a hundred times as long if it were copied


def test_padding_after_the_last_gzip_member_is_ignored() -> None:
    """Some tools pad with zeros."""
    assert (
        decode(
            page(gzip.compress(b"a", mtime=0) + b"\0" * 40_000, "text/plain"), Decoder("text", "gzip")
        ).value
        == "a"
    )


def test_repeated_csv_columns_are_named_in_linear_time() -> None:
    """Each of twenty thousand columns has its own name."""
    count = 20_000
    body = ",".join(["a"] * count) + "\n" + ",".join(["1"] * count)
    started_s = time.process_time()
    (row,) = decode(page(body.encode(), "text/csv"), Decoder("csv")).whole()
    assert (len(row), list(row)[:3], list(row)[-1]) == (count, ["a", "a_2", "a_3"], f"a_{count}")
    assert time.process_time() - started_s < 5  # half a minute if each name were counted from 2


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"items": [{"id": 1'),
        ("application/json", b"<html>502 Bad Gateway</html>"),
        ("text/plain", b'[{"id": 1}, {"i'),
        ("", b'{"a": "x'),
        ("application/x-ndjson", b'{"id": 1}\n{"id"'),
        ("text/csv", b'id,name\n1,a\n2,"b'),
        ("text/csv", b'id,"na'),
        ("text/xml", b"<rows><row>1</row><ro"),
        ("text/xml", b"<rows><row>1</row>"),
        ("application/gzip", gzip.compress(b"id\n1\n", mtime=0)[:-9]),
    ],
)
def test_bodies_that_are_cut_off_are_broken(kind: str, body: bytes) -> None:
    """The next response may be whole, so the error differs from that of a body of another kind."""
    page = Page("https://a.test/x", 200, (("Content-Type", kind),), body)
    with pytest.raises(BrokenBody):
        decode(page, Decoder()).whole()


def test_quotes_that_are_closed_are_not_cut_off() -> None:
    """A file may end with a quoted field, with or without a line break, and a quoted field may have several lines."""
    for end in (b"", b"\n", b"\r\n"):
        page = Page("https://a.test/x", 200, (("Content-Type", "text/csv"),), b'id,t\n1,"a\nb"' + end)
        assert decode(page, Decoder()).whole() == [{"id": "1", "t": "a\nb"}]
