"""Reading the lines of a seed file."""

from __future__ import annotations

import re

import pytest

from scrapeq.cli.seed_lines import LINE_MAX, LineReader, SeedLine, read_line
from scrapeq.errors import UsageError


def read(*pieces: bytes) -> list[tuple[int, SeedLine | str]]:
    """Return the parsed lines of a file that arrives in these pieces."""
    reader = LineReader()
    return [one for piece in pieces for one in reader.feed(piece)] + list(reader.end())


def test_line_numbers_count_blank_lines_and_comments() -> None:
    """A line keeps its number in the file, although blank lines and comments are skipped."""
    assert read(b"# first\n\n  https://a.test/1  \nhttps://a.test/2") == [
        (3, SeedLine("https://a.test/1")),
        (4, SeedLine("https://a.test/2")),
    ]


def test_pieces_may_split_lines_anywhere() -> None:
    """Single bytes give the same lines as the whole file, also with CRLF and a byte order mark."""
    text = '\ufeffhttps://a.test/é\r\n{"owner": "ü"}\r\n'.encode()
    assert read(*(text[i : i + 1] for i in range(len(text)))) == read(text)
    assert read(text) == [(1, SeedLine("https://a.test/é")), (2, SeedLine({"owner": "ü"}))]


def test_an_object_is_a_seed_unless_it_has_url_or_seed() -> None:
    """A plain object has the values of a seed; with url or seed, the other keys are attributes of the task."""
    assert read_line('{"owner": "o", "priority": 1}') == SeedLine({"owner": "o", "priority": 1})
    assert read_line('{"url": "https://a.test/", "priority": -2.5}') == SeedLine("https://a.test/", "", -2.5)
    line = read_line('{"seed": {"url": "x"}, "resource": "r", "priority": "2024-01-01", "delay": "1m30s"}')
    assert line == SeedLine({"url": "x"}, "r", 1704067200.0, 90.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.test/1", "neither an http(s) URL nor a JSON object"),
        ("ftp://a.test/", "neither"),
        ("http:///x", "neither"),
        ("http://[::1/x", "is not a URL"),
        ("https://a.test/a b", "space"),
        ("{", "invalid JSON"),
        ('{"url": "https://a.test/", "priority": NaN}', "invalid JSON"),
        ('{"url": "https://a.test/", "priority": "nan"}', "is not a finite number"),
        ('{"url": "https://a.test/", "priority": "soon"}', "is not a number or a time"),
        ('{"url": "https://a.test/", "priority": true}', "is not a number or a time"),
        ('{"url": "https://a.test/", "delay": -1}', "negative"),
        ('{"url": "https://a.test/", "delay": "-1s"}', "negative"),
        ('{"url": "https://a.test/", "delay": "90"}', "has no unit"),
        ('{"url": "https://a.test/", "prio": 1}', "unknown key 'prio'"),
        ('{"url": "https://a.test/", "seed": {}}', "both url and seed"),
        ('{"url": 5}', "url must be a string"),
        ('{"seed": []}', "seed must be a JSON object"),
        ('{"seed": {}, "resource": 1}', "resource must be a string"),
    ],
)
def test_an_invalid_line_says_what_is_wrong(line: str, message: str) -> None:
    """Each kind of mistake has its own message."""
    with pytest.raises(UsageError, match=re.escape(message)):
        read_line(line)


def test_an_invalid_line_does_not_affect_its_neighbors() -> None:
    """Lines beside one that is not UTF-8 or is too long are read normally."""
    found = read(b"https://a.test/1\n\xff\xfe\n", b"x" * LINE_MAX, b"x" * LINE_MAX, b"x\nhttps://a.test/4\n")
    assert found == [
        (1, SeedLine("https://a.test/1")),
        (2, "not UTF-8 text"),
        (3, f"longer than {LINE_MAX} bytes"),
        (4, SeedLine("https://a.test/4")),
    ]
