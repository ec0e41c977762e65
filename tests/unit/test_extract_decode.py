"""Bytes to values: by what the resource says, what the answer says, and how the bytes look."""

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

from scrapeq.errors import ExtractError
from scrapeq.extract.decode import Body, decode
from scrapeq.extract.unpack import unpacked
from scrapeq.page import Page
from scrapeq.plan import Decoder


def page(body: bytes, kind: str = "application/json") -> Page:
    """An answer of this media type."""
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
def test_json_is_found_under_any_name(decoder: Any, kind: str, body: bytes, value: Any) -> None:
    """Declared, undeclared or declared wrongly; with a byte order mark, another charset, or one value a line."""
    assert decode(page(body, kind), Decoder(decoder)).whole() == value


@pytest.mark.parametrize(("decoder", "kind"), [("text", "text/html"), ("auto", "text/plain")])
def test_text_stays_text(decoder: Any, kind: str) -> None:
    """Where it is asked for, or said by the answer and nothing else."""
    assert decode(page("für".encode(), kind), Decoder(decoder)) == Body("für", is_text=True)


@pytest.mark.parametrize(
    ("decoder", "kind", "body", "message"),
    [
        ("json", "application/json", b"{", r"the answer \(application/json\) is no JSON: .*line 1 column 2"),
        ("json", "text/html", b"<html>", r"the answer \(text/html\) is no JSON"),
        ("jsonl", "", b'{"a":1}\n{"a":', "line 2 of the answer is no JSON"),
        (
            "auto",
            "text/html; charset=utf-8",
            b"<html>",
            "the answer is text/html and no JSON; `decoder: text`",
        ),
        ("auto", "", b"\x00\x01", "the answer is of no declared type and no JSON"),
        ("auto", "application/json", b"<html>", "no JSON"),
        ("auto", "", b"{broken", "no JSON"),
        ("json", "", b"[" * 250 + b"]" * 250, "nested more than 200 levels deep"),
        ("json", "", b"[" * 5000 + b"]" * 5000, "no JSON: depth"),
        ("jsonl", "", b"1\n" + b'{"a":' * 230 + b"1" + b"}" * 230, "nested more than 200 levels deep"),
    ],
)
def test_what_is_none_is_named(decoder: Any, kind: str, body: bytes, message: str) -> None:
    """One error that says what came and where it breaks."""
    with pytest.raises(ExtractError, match=message):
        decode(page(body, kind), Decoder(decoder)).whole()


def test_brackets_in_texts_are_no_depth() -> None:
    """A flat value with many brackets passes."""
    assert decode(page(b'["' + b"[{" * 1000 + b'"]'), Decoder("json")).whole() == ["[{" * 1000]


def test_text_can_always_be_written() -> None:
    """A charset that gives half a character leaves a replacement."""
    assert decode(page(b"a\\ud800b", "text/plain; charset=unicode_escape"), Decoder("text")).value == "a?b"


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
    """By its header; quotes, other delimiters and encodings, columns without a name or with one name twice."""
    answer = page(body, kind)
    if rows == "no name":
        answer, rows = Page("https://a.test/f.csv?x=1", 200, answer.headers, body), [{"a": "1"}]
    assert decode(answer, decoder).whole() == rows


@pytest.mark.parametrize("kind", ["application/xml", "text/xml; charset=utf-8", "application/atom+xml", ""])
def test_xml_is_a_tree(kind: str) -> None:
    """Attributes, text beside them, repeated elements, names with a prefix; a declared encoding."""
    body = """<?xml version="1.0" encoding="latin-1"?><r xmlns:m="u"><i id="1">ü</i><i/><m:t>x</m:t></r>"""
    raw = body.encode("latin-1") if "utf-8" not in kind else body.encode()
    tree = decode(page(raw, kind), Decoder()).value
    assert tree == {"r": {"@xmlns:m": "u", "i": [{"@id": "1", "#text": "ü"}, None], "m:t": "x"}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<a>", "no XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "entities are disabled"),
        (b"<a>" * 300 + b"</a>" * 300, "nested more than 200"),
    ],
)
def test_xml_that_is_none_is_named(body: bytes, message: str) -> None:
    """No entities, no depth without end."""
    with pytest.raises(ExtractError, match=message):
        decode(page(body, "text/xml"), Decoder())


def test_xml_reads_nothing_else() -> None:
    """A document type elsewhere is left there."""
    body = b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a>&b;</a>'
    assert decode(page(body, "text/xml"), Decoder()).value == {"a": None}


def zipped(*names: str, body: bytes = b"[1]") -> bytes:
    """A zip file with these files in it."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, body)
    return whole.getvalue()


PACKED = {
    "gzip": gzip.compress(b'[1,"') + gzip.compress(b'a"]'),
    "zip": zipped("d/", "d/a.json", "__MACOSX/a", body=b'[1,"a"]'),
    "bz2": bz2.compress(b'[1,"a"]'),
    "xz": lzma.compress(b'[1,"a"]'),
    "zstd": zstandard.compress(b'[1,"a"]'),
}


@pytest.mark.parametrize("packed", PACKED)
def test_files_are_unpacked(packed: Any) -> None:
    """As it is said; gzip and zip also when they only look so; several gzip members are one file."""
    assert decode(page(PACKED[packed], "application/x"), Decoder("json", compression=packed)).value == [
        1,
        "a",
    ]
    if packed in ("gzip", "zip"):
        assert decode(page(PACKED[packed], "application/octet-stream"), Decoder()).value == [1, "a"]
    with pytest.raises(ExtractError, match=f"no whole {packed} file"):
        decode(page(PACKED[packed][:-9], ""), Decoder("json", compression=packed))
    with pytest.raises(ExtractError, match=f"no whole {packed} file"):
        decode(page(b"[1]", ""), Decoder("json", compression=packed))


def test_a_packed_file_is_known_by_its_name() -> None:
    """That of the address, or that inside the zip."""
    csv = b"a,b\n1,2\n"
    named = Page(
        "https://a.test/rates.csv.gz", 200, (("Content-Type", "application/gzip"),), gzip.compress(csv)
    )
    assert decode(named, Decoder()).whole() == [{"a": "1", "b": "2"}]
    inside = page(zipped("rates.csv", body=csv), "application/zip")
    assert decode(inside, Decoder()).whole() == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("packed", PACKED)
def test_a_bomb_ends_in_one_error(packed: Any) -> None:
    """30 MB of nothing in a few KB cost no more memory than is allowed."""
    pack: dict[str, Any] = {
        "gzip": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zstd": zstandard.compress,
    }
    nothing = bytes(30_000_000)
    bomb = zipped("a", body=nothing) if packed == "zip" else pack[packed](nothing)
    tracemalloc.start()
    with pytest.raises(
        ExtractError, match=r"larger than max_body_size \(1000000 bytes\) once it is unpacked"
    ):
        decode(page(bomb), Decoder("json", compression=packed), 1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_zip_of_several_files_is_refused() -> None:
    """There is no telling which is meant."""
    with pytest.raises(ExtractError, match="holds 2 files; one is read"):
        decode(page(zipped("a", "b")), Decoder())


@pytest.mark.parametrize("member", [gzip.compress(b"", mtime=0), gzip.compress(os.urandom(5000))])
def test_a_file_of_many_gzip_members_is_read_in_one_go(member: bytes) -> None:
    """BGZF and our own files are thousands of members: the rest of the file is not copied for each of them."""
    count = 10_000_000 // len(member)
    started_s = time.process_time()
    whole, _ = unpacked(member * count, "gzip", 2**31)
    assert len(whole) == count * len(gzip.decompress(member))
    assert time.process_time() - started_s < 20  # a hundredfold, where it is copied


def test_what_follows_the_last_gzip_member_is_passed_over() -> None:
    """Some tools pad with zeros."""
    assert (
        decode(page(gzip.compress(b"a") + b"\0" * 40_000, "text/plain"), Decoder("text", "gzip")).value == "a"
    )


def test_a_csv_header_of_one_name_many_times_costs_no_square() -> None:
    """Each column has a name of its own; twenty thousand of them are read at once."""
    count = 20_000
    body = ",".join(["a"] * count) + "\n" + ",".join(["1"] * count)
    started_s = time.process_time()
    (row,) = decode(page(body.encode(), "text/csv"), Decoder("csv")).whole()
    assert (len(row), list(row)[:3], list(row)[-1]) == (count, ["a", "a_2", "a_3"], f"a_{count}")
    assert time.process_time() - started_s < 5  # half a minute, where each copy is counted from 2
