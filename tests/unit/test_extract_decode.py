"""Bytes to values: by what the resource says, what the answer says, and how the bytes look."""

from __future__ import annotations

from typing import Any

import pytest

from scrapeq.errors import ExtractError
from scrapeq.extract.decode import Body, decode
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
