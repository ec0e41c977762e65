"""The lines of a seed file."""

from __future__ import annotations

import pytest

from scrapeq.cli.seed_lines import LINE_MAX, LineReader, SeedLine, read_line
from scrapeq.errors import UsageError


def read(*pieces: bytes) -> list[tuple[int, SeedLine | str]]:
    """What these pieces of a file say."""
    reader = LineReader()
    return [one for piece in pieces for one in reader.feed(piece)] + list(reader.end())


def test_numbers_count_blank_lines_and_comments() -> None:
    """A line is named by its place in the file, whatever was passed over before it."""
    assert read(b"# first\n\n  https://a.test/1  \nhttps://a.test/2") == [
        (3, SeedLine("https://a.test/1")),
        (4, SeedLine("https://a.test/2")),
    ]


def test_pieces_may_cut_lines_anywhere() -> None:
    """Bytes that come one at a time say the same as all at once, CRLF and a byte order mark too."""
    text = '\ufeffhttps://a.test/é\r\n{"owner": "ü"}\r\n'.encode()
    assert read(*(text[i : i + 1] for i in range(len(text)))) == read(text)
    assert read(text) == [(1, SeedLine("https://a.test/é")), (2, SeedLine({"owner": "ü"}))]


def test_objects_are_seeds_unless_they_are_envelopes() -> None:
    """An object is a seed's values; with url or seed it is an envelope with the task's own members."""
    assert read_line('{"owner": "o", "priority": 1}') == SeedLine({"owner": "o", "priority": 1})
    assert read_line('{"url": "https://a.test/", "priority": -2.5}') == SeedLine("https://a.test/", "", -2.5)
    envelope = read_line(
        '{"seed": {"url": "x"}, "resource": "r", "priority": "2024-01-01", "delay": "1m30s"}'
    )
    assert envelope == SeedLine({"url": "x"}, "r", 1704067200.0, 90.0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.test/1", "neither an http(s) address nor a JSON object"),
        ("ftp://a.test/", "neither"),
        ("http:///x", "neither"),
        ("http://[::1/x", "no address"),
        ("https://a.test/a b", "space"),
        ("{", "no JSON"),
        ('{"url": "https://a.test/", "priority": NaN}', "no JSON"),
        ('{"url": "https://a.test/", "priority": "nan"}', "no finite number"),
        ('{"url": "https://a.test/", "priority": "soon"}', "no number and no time"),
        ('{"url": "https://a.test/", "priority": true}', "no number and no time"),
        ('{"url": "https://a.test/", "delay": -1}', "negative"),
        ('{"url": "https://a.test/", "delay": "-1s"}', "negative"),
        ('{"url": "https://a.test/", "delay": "90"}', "has no unit"),
        ('{"url": "https://a.test/", "prio": 1}', "unknown member 'prio'"),
        ('{"url": "https://a.test/", "seed": {}}', "both url and seed"),
        ('{"url": 5}', "url is no text"),
        ('{"seed": []}', "seed is no JSON object"),
        ('{"seed": {}, "resource": 1}', "resource is no text"),
    ],
)
def test_junk_says_what_is_wrong(line: str, words: str) -> None:
    """Each kind of junk has words of its own."""
    with pytest.raises(UsageError, match=words.replace("(", r"\(").replace(")", r"\)")):
        read_line(line)


def test_junk_takes_no_neighbour_with_it() -> None:
    """Lines around bytes that are no text, or a line that never seems to end, are read as ever."""
    found = read(b"https://a.test/1\n\xff\xfe\n", b"x" * LINE_MAX, b"x" * LINE_MAX, b"x\nhttps://a.test/4\n")
    assert found == [
        (1, SeedLine("https://a.test/1")),
        (2, "no UTF-8 text"),
        (3, f"longer than {LINE_MAX} bytes"),
        (4, SeedLine("https://a.test/4")),
    ]
