"""CSV and TSV as they are in the wild, columnar JSON, maps of records, and other content in their place."""

from __future__ import annotations

from typing import Any

import pytest

from scrapeq.errors import ExtractError
from scrapeq.extract.decode import decode
from scrapeq.extract.record_shapes import compile_endpoint_records
from scrapeq.page import Page
from scrapeq.plan import Decoder, Endpoint


def page(text: str, kind: str = "text/csv") -> Page:
    """Return a response of this media type."""
    return Page("https://a.test/", 200, (("Content-Type", kind),) if kind else (), text.encode())


def rows(text: str, decoder: Decoder = Decoder("csv"), kind: str = "text/csv") -> tuple[Any, list[str]]:
    """Return the records of a file and the topics that were reported."""
    body = decode(page(text, kind), decoder)
    return body.whole(), list(body.repairs)


TITLES = 'id\ttitle\nt1\t"Giliap\nt2\tAlpha\nt3\tBeta" x\nt4\tGamma\n'
REPORT = "Report: sales\nDates: 2024\n\nid,v\n1,a\n2,b\n"
REPORTED = [{"id": "1", "v": "a"}, {"id": "2", "v": "b"}]


@pytest.mark.parametrize(
    ("text", "decoder", "expected", "reported"),
    [
        ("1,alice\n2,bob\n", Decoder("csv"), [{"1": "2", "alice": "bob"}], ["header"]),
        ("1,alice\n2,bob\n", Decoder("csv", header="none"), [
            {"column_1": "1", "column_2": "alice"}, {"column_1": "2", "column_2": "bob"},
        ], []),
        ("1,alice\n2,bob\n", Decoder("csv", header=("id", "name")), [
            {"id": "1", "name": "alice"}, {"id": "2", "name": "bob"},
        ], []),
        ("id,v\n1,a\n", Decoder("csv", header=("n", "x"), skip_lines=1), [{"n": "1", "x": "a"}], []),
        ("1,a\n2,b,c\n", Decoder("csv", header="none"), [
            {"column_1": "1", "column_2": "a", "column_3": None},
            {"column_1": "2", "column_2": "b", "column_3": "c"},
        ], []),
        (REPORT, Decoder("csv", skip_lines=3), REPORTED, []),
        (REPORT, Decoder("csv"), REPORTED, ["preamble"]),
        ("# a, b\n# c\nid,v\n1,a\n2,b\n", Decoder("csv"), REPORTED, ["preamble"]),
        ("Sales\nid,v\n1,a\n2,b\n", Decoder("csv"), REPORTED, ["preamble"]),
        ("Report,,\nFrom,2024-01-01,\n,,\nid,v,w\n1,a,\n2,b,\n", Decoder("csv"), [
            {"id": "1", "v": "a", "w": ""}, {"id": "2", "v": "b", "w": ""},
        ], ["preamble"]),
        ("Internal Server Error", Decoder("csv"), None, ["empty"]),
        ("id,v\n", Decoder("csv"), None, []),
        ("sep=;\nid;v\n1;a\n2;b\n", Decoder("csv"), REPORTED, []),
        ("id;v\n1;a\n2;b\n", Decoder(), REPORTED, []),
        ("#id,v\n1,a\n2,b\n", Decoder("csv"), [{"#id": "1", "v": "a"}, {"#id": "2", "v": "b"}], []),
        ("note\nhello\nnice, really\nok, fine\n", Decoder("csv"), [
            {"note": "hello"}, {"note": "nice", "_more": [" really"]}, {"note": "ok", "_more": [" fine"]},
        ], ["width"]),
        ("land,2020,2021\nDE,5,6\n", Decoder("csv"), [{"land": "DE", "2020": "5", "2021": "6"}], []),
        ('id,v\r1,"a"\r', Decoder("csv"), [{"id": "1", "v": "a"}], []),
        ('id,v\n1,5" pipe\n', Decoder("csv"), [{"id": "1", "v": '5" pipe'}], []),
        ('id,v\n1,"a"\n', Decoder("csv", quoting=False), [{"id": "1", "v": '"a"'}], []),
        (TITLES, Decoder("tsv"), [
            {"id": "t1", "title": '"Giliap'}, {"id": "t2", "title": "Alpha"},
            {"id": "t3", "title": 'Beta" x'}, {"id": "t4", "title": "Gamma"},
        ], []),
        ('id\tv\n1\t"a\nb"\n', Decoder("tsv", quoting=True), [{"id": "1", "v": "a\nb"}], []),
    ],
)  # fmt: skip
def test_a_table_is_read_as_it_is_written(
    text: str, decoder: Decoder, expected: Any, reported: list[str]
) -> None:
    """Files without a header, with lines before it, without quotes; what is skipped or doubtful is reported."""
    assert rows(text, decoder) == (expected, reported)


def test_tsv_has_no_quotes_by_its_media_type() -> None:
    """As IANA registered it."""
    found, _ = rows(TITLES, Decoder(), "text/tab-separated-values")
    assert [one["id"] for one in found] == ["t1", "t2", "t3", "t4"]


def test_the_name_of_a_file_tells_its_format() -> None:
    """Many servers send every file as text/plain, or a name in Content-Disposition only."""
    body, csv = b"id,v\n1,a\n", [{"id": "1", "v": "a"}]
    plain = (("Content-Type", "text/plain; charset=utf-8"),)
    assert decode(Page("https://a.test/x/data.csv", 200, plain, body), Decoder()).whole() == csv
    named = (
        ("Content-Type", "application/vnd.ms-excel"),
        ("Content-Disposition", 'attachment; filename="x.csv"'),
    )
    assert decode(Page("https://a.test/export", 200, named, body), Decoder()).whole() == csv
    assert decode(Page("https://a.test/notes.txt", 200, plain, body), Decoder()).is_text


def test_an_open_quote_never_swallows_the_rest() -> None:
    """The error names the line and the remedy."""
    with pytest.raises(
        ExtractError, match=r"line 3 of the response opens a quote .* `decoder: {quoting: false}`"
    ):
        rows('id,v\n1,a\n2,"b\n3,c\n')


LOGIN = "<!DOCTYPE html>\n<html><head><title>Sign in, please</title></head><body></body></html>"
ERROR = '{"error": "no such export"}'


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize(
    "text", ["<Error><Code>AccessDenied</Code></Error>", "<div>Please log in: AccessDenied</div>"]
)
def test_markup_is_not_a_table(kind: Any, text: str) -> None:
    """Storage services answer with XML, and some pages are only a part of HTML."""
    with pytest.raises(ExtractError, match=r"but markup; it begins with: .*AccessDenied"):
        decode(page(text, ""), Decoder(kind)).whole()


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "xml"])
@pytest.mark.parametrize(
    ("text", "media", "words"),
    [
        (LOGIN, "text/html", "Sign in, please"),
        (f"\ufeff\n<!-- x -->{LOGIN}", "text/html", "Sign in, please"),
        ("<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html", "502 Bad Gateway"),
        (ERROR, "application/json", "no such export"),
        (ERROR, "text/plain", "no such export"),
        ('{\n  "status": 403,\n  "message": "no quota"\n}', "", "no quota"),
    ],
)
def test_another_format_in_its_place_is_an_error(kind: Any, text: str, media: str, words: str) -> None:
    """A login page or an error of the API becomes an error that quotes it, not records."""
    with pytest.raises(ExtractError, match=f"not .*{words}"):
        decode(page(text, media), Decoder(kind)).whole()


def test_records_that_look_like_errors_stay_records() -> None:
    """Only what has the names of errors and no others is an error."""
    for text in ('{"error": null, "id": 1}', '{"message": "hi", "code": 200}', '{"title": "a", "type": "b"}'):
        assert len(decode(page(text, ""), Decoder("jsonl")).whole()) == 1
    assert rows("{a},b\n1,2\n")[0] == [{"{a}": "1", "b": "2"}]


AB = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
CELLS = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("endpoint", "body", "expected"),
    [
        ({}, {"columns": ["a", "b"], "rows": CELLS}, AB),
        ({}, {"columns": ["a", "b"], "index": [0, 1], "data": CELLS}, AB),
        ({}, {"meta": [{"name": "a", "type": "Int"}, {"name": "b", "type": "Int"}], "data": CELLS}, AB),
        ({}, {"columnHeaders": [{"name": "a"}, {"name": "b"}], "rows": CELLS}, AB),
        ({"data_selector": "table.rows"}, {"table": {"columnNames": ["a", "b"], "rows": CELLS}}, AB),
        ({"data_selector": "resultSets[0].rowSet"}, {"resultSets": [{"headers": ["a", "b"], "rowSet": CELLS}]}, AB),
        ({"data_selector": "results[].series[].values[]"}, {
            "results": [{"series": [{"columns": ["a", "b"], "values": CELLS}]}],
        }, AB),
        ({"data_selector": "r", "columns": "names"}, {"names": ["a", "b"], "r": [[1, 2], [3]]}, [
            AB[0], {"a": 3, "b": None},
        ]),
        ({"columns": "first_row"}, [["a", "b"], *CELLS], AB),
        ({"columns": "lists", "data_selector": "hourly"}, {"hourly": {"a": [1, 3], "b": [2, 4]}}, AB),
        ({}, {"columns": ["a", "b", "c"], "rows": CELLS}, CELLS),
        ({}, {"columns": ["a", "b"], "fields": ["c", "d"], "rows": CELLS}, CELLS),
        ({}, {"columns": ["a", "b"], "rows": []}, []),
        ({"key_as": "id"}, {"x": {"n": 1}, "y": {"n": 2, "id": 5}, "z": 3}, [
            {"id": "x", "n": 1}, {"id": "y", "n": 2}, {"id": "z", "value": 3},
        ]),
        ({"key_as": "id", "data_selector": "data"}, {"data": []}, []),
        ({"key_as": "id", "data_selector": "data"}, {"data": None}, []),
    ],
)  # fmt: skip
def test_records_need_not_be_a_list_of_maps(endpoint: dict[str, Any], body: Any, expected: Any) -> None:
    """Columns beside rows are recognized where they are certain; maps and whole columns are declared."""
    assert compile_endpoint_records(Endpoint(**endpoint))(body) == expected


@pytest.mark.parametrize(
    ("endpoint", "body", "message"),
    [
        ({"key_as": "id"}, [{"a": 1}, 2], "needs a map of records"),
        ({"columns": "lists"}, {"a": [1], "b": [1, 2]}, "same length, but they have a: 1, b: 2"),
        ({"columns": "lists"}, {"a": 1}, "needs a map of lists"),
        ({"columns": "names"}, {"rows": [[1]]}, "names selects no list of different names"),
        ({"columns": "first_row"}, [[1, 2]], "needs a list of names"),
    ],
)
def test_a_shape_that_does_not_fit_is_an_error(endpoint: dict[str, Any], body: Any, message: str) -> None:
    """It names the key."""
    with pytest.raises(ExtractError, match=message):
        compile_endpoint_records(Endpoint(**endpoint))(body)
