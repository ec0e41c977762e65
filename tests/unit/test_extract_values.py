"""Values as servers write them: numbers of any size, what is not JSON, encodings, and what was reported about them."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from scrapeq.charsets import encoding_of
from scrapeq.errors import ExtractError
from scrapeq.extract.decode import decode
from scrapeq.json_values import NOT_A_NUMBER, NOT_UNICODE, TRAILING, has_long_integer, read_json
from scrapeq.page import Page
from scrapeq.plan import Decoder


def page(body: bytes, kind: str = "application/json") -> Page:
    """Return a response of this media type."""
    return Page("https://a.test/", 200, (("Content-Type", kind),) if kind else (), body)


@pytest.mark.parametrize(
    ("body", "value", "repairs"),
    [
        (b"[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)], []),
        (b"[18446744073709551616,-9223372036854775809]", ["18446744073709551616", "-9223372036854775809"], []),
        (b'{"a":\n1234567890123456789012}', {"a": "1234567890123456789012"}, []),
        (b"9" * 5000, "9" * 5000, []),
        (b"[0.12345678901234567890, 1e5]", [0.12345678901234568, 1e5], []),
        (b"[12345678901234567890.5]", [1.2345678901234567e19], []),
        (b'["12345678901234567890123"]', ["12345678901234567890123"], []),
        (b"[NaN, Infinity, -Infinity, 1e400, -1e400]", [None] * 5, [NOT_A_NUMBER]),
        (b'[nan, -inf, undefined, "nan"]', [None, None, None, "nan"], [NOT_A_NUMBER]),
        (rb'["cut \ud83d", "\\ud83d"]', ["cut �", "\\ud83d"], [NOT_UNICODE]),
        (rb'["\ud83d\ude00", "\ude00\ud83d"]', ["😀", "��"], [NOT_UNICODE]),
        (b'["\xed\xa0\xbd\xed\xb8\x80"]', ["😀"], []),
        (b'{"a": [1, 2,], "b": "x,]",}', {"a": [1, 2], "b": "x,]"}, []),
        (b'["caf\xe9", 1]', ["caf�", 1], [NOT_UNICODE]),
        (b'{"a": "x\ty\n"}', {"a": "x\ty\n"}, []),
        (b"[1]\0\0\n", [1], []),
        (b'{"a": 1}<!-- 3 ms -->', {"a": 1}, [TRAILING]),
        (b")]}',\n[1]", [1], []),
        (b'while(1);{"a": 12345678901234567890123}', {"a": "12345678901234567890123"}, []),
        (b"for(;;);[1]", [1], []),
        (b'{"a": 1, "a": 2}', {"a": 2}, []),
    ],
)  # fmt: skip
def test_json_keeps_every_value(body: bytes, value: Any, repairs: list[str]) -> None:
    """One unusual value costs neither its digits nor the page, and what was changed is known."""
    found = decode(page(body), Decoder("json"))
    assert (found.value, list(found.repairs)) == (value, repairs)
    orjson.dumps(found.value)
    assert decode(page(body + b"\n" + body), Decoder("jsonl")).rows is not None


@pytest.mark.parametrize(
    "body", [b"{broken", b"[1,", b'{"a" 1}', b"[1] 2, 3]x[", b"[" * 100_000, b"", b"tru"]
)
def test_what_is_not_json_is_an_error_of_its_own(body: bytes) -> None:
    """The lenient reader does not accept everything, and never ends in another exception."""
    with pytest.raises(ValueError):
        read_json(body)
    with pytest.raises(ValueError):
        read_json(body.replace(b"[1] 2", b"{1} 2"), {})


def test_several_values_in_one_body_are_rows() -> None:
    """JSON Lines that are declared as JSON, and values without anything between them, lose no value."""
    for body in (b'{"a":1}\n{"a":2}\n', b'{"a":1}{"a":2}', b'\x1e{"a":1}\n\x1e{"a":2}\n'):
        assert decode(page(body), Decoder()).whole() == [{"a": 1}, {"a": 2}]
    with pytest.raises(ExtractError, match="not valid JSON"):
        decode(page(b'{"a":1}{"a":'), Decoder())
    assert decode(page(b"[1] Smith, 2020", "text/plain"), Decoder()).value == "[1] Smith, 2020"


def test_a_page_gives_python_numbers() -> None:
    """The public method returns integers of any size as such."""
    assert page(b'[18446744073709551617, NaN, "\\ud83d"]').json() == [2**64 + 1, None, "�"]
    assert page("[1]".encode("utf-16"), "").json() == [1]
    with pytest.raises(ValueError):
        page(b"<html>").json()


@pytest.mark.serial
def test_looking_for_long_integers_is_cheap() -> None:
    """On a page of 1 MB the search costs less than parsing it, also with many digits."""
    records = [{"id": 1234567890123456789 - n, "name": f"name {n}", "value": n / 7} for n in range(16_000)]
    body = orjson.dumps(records)
    assert not has_long_integer(body)

    def seconds(call: Any) -> float:
        best = 9.0
        for _ in range(7):
            started_s = time.perf_counter()
            call(body)
            best = min(best, time.perf_counter() - started_s)
        return best

    assert seconds(has_long_integer) < seconds(orjson.loads)


KOREAN, JAPANESE = "[\"한국\"]", "[\"日本\"]"  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "text"),
    [
        ('["ü"]'.encode("utf-16"), "application/json", "", '["ü"]'),
        ('["ü"]'.encode("utf-16"), "application/json; charset=utf-16le", "", '["ü"]'),
        ('["ü"]'.encode("utf-16"), "application/json; charset=utf-8", "", '["ü"]'),
        ('["ü"]'.encode("utf-16"), "application/json", "utf-16le", '["ü"]'),
        ('["ü"]'.encode("utf-16-be"), "application/json", "", '["ü"]'),
        ('["ü"]'.encode("utf-16-le"), "application/json; charset=utf-16", "", '["ü"]'),
        ('["ü"]'.encode("utf-32"), "application/json", "", '["ü"]'),
        ('["ü"]'.encode("utf-8-sig"), "application/json; charset=latin-1", "", '["ü"]'),
        (KOREAN.encode("euc-kr"), "application/json; charset=euc-kr", "", KOREAN),
        (KOREAN.encode("cp949"), "application/json; charset=ks_c_5601-1987", "", KOREAN),
        (JAPANESE.encode("shift_jis"), "application/json; charset=x-sjis", "", JAPANESE),
        (JAPANESE.encode("gb18030"), "application/json; charset=gb2312", "", JAPANESE),
        ('["ü"]'.encode(), "application/json; charset=x-user-defined", "", '["ü"]'),
        ('["ü"]'.encode(), "application/json; charset=idna", "", '["ü"]'),
        ('["ü"]'.encode(), "application/json; charset=\"\"", "", '["ü"]'),
    ],
)  # fmt: skip
def test_json_is_read_in_any_encoding(body: bytes, kind: str, encoding: str, text: str) -> None:
    """A byte order mark wins over the declared charset, and an unknown charset is UTF-8."""
    assert decode(page(body, kind), Decoder("json", encoding=encoding)).value == orjson.loads(text)
    assert decode(page(body, kind), Decoder("text", encoding=encoding)).value == text


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('<?xml version="1.0" encoding="euc-kr"?><a>한국</a>'.encode("euc-kr"), "text/xml"),
        ('<?xml version="1.0" encoding="UTF-16"?><a>한국</a>'.encode("utf-16"), "text/xml"),
        ('<?xml version="1.0" encoding="UTF-16"?><a>한국</a>'.encode(), "text/xml"),
        ('<?xml version="1.0" encoding="utf-16"?><a>한국</a>'.encode("utf-16"), "text/xml; charset=utf-16le"),
        ('<?xml version="1.0" encoding="bogus"?><a>한국</a>'.encode(), "text/xml; charset=nope"),
        ('<?xml version="1.0" encoding="gbk"?><a>한국</a>'.encode("gb18030"), "text/xml"),
    ],
)
def test_xml_is_read_in_its_declared_encoding(body: bytes, kind: str) -> None:
    """The parser itself knows few encodings; scrapeq decodes the document before."""
    assert decode(page(body, kind), Decoder("xml")).value == {"a": "한국"}


def test_csv_and_html_are_read_in_their_encoding() -> None:
    """A byte order mark never becomes part of the first column's name."""
    for name in ("utf-16", "utf-8-sig", "utf-32"):
        assert decode(page("id,ü\n1,2\n".encode(name), "text/csv"), Decoder("csv")).whole() == [
            {"id": "1", "ü": "2"}
        ]
    html = '<html><meta charset="euc-kr">한국'.encode("euc-kr")
    assert decode(page(html, "text/html"), Decoder("text")).value.endswith("한국")
    assert encoding_of(b"", "") == "utf-8"
