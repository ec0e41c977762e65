"""Seed files: read line by line, and each mistake is reported with its line."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from scrapeq.errors import UsageError
from scrapeq.expression import compile_expression as expression
from scrapeq.expression import compile_template as template
from scrapeq.plan import Client, Endpoint, Plan, Resource
from scrapeq.resource import first_tasks
from scrapeq.resource.seeds import read_seed_file, seeds_of
from scrapeq.task import Group

NOW_S = 1_700_000_000.0


def plan(**more: Any) -> Plan:
    """Return a plan with one resource that requests the repository of each seed."""
    resource = Resource("r", Endpoint(path=template("${seed.repo}")))
    return Plan("t", "t.yaml", client=Client(base_url="https://a.test"), resources=(resource,), **more)


@pytest.mark.parametrize(
    ("name", "text", "seeds"),
    [
        ("a.csv", "repo,n\na,1\n\nb,\n", [{"repo": "a", "n": "1"}, {"repo": "b", "n": ""}]),
        ("a.csv", '\ufeffrepo, n\n"x\ny",0012\n', [{"repo": "x\ny", "n": "0012"}]),
        ("a.jsonl", '{"repo": "a"}\n\n{"repo": "b", "n": [1]}\n', [{"repo": "a"}, {"repo": "b", "n": [1]}]),
        (
            "a.txt",
            "# all\nhttps://a.test/1\n\n https://a.test/2 \n",
            [{"url": f"https://a.test/{n}"} for n in (1, 2)],
        ),
    ],
)
def test_each_format_of_seed_files_is_read(tmp_path: Path, name: str, text: str, seeds: list[Any]) -> None:
    """Covers CSV with a header, JSON Lines, and text with one URL per line."""
    (tmp_path / name).write_text(text)
    assert [seed.values for seed in read_seed_file(str(tmp_path / name))] == seeds


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv:1: the first line must name the columns"),
        (
            "a.csv",
            "repo,repo\na,b\n",
            "a.csv:1: the first line must name the columns, each with a different name",
        ),
        ("a.csv", "repo,n\na,1\nb\n", "a.csv:3: 1 values for 2 columns"),
        ("a.csv", 'repo\n"a\n', "a.csv:2: invalid CSV"),
        ("a.jsonl", '{"repo": "a"}\n{repo}\n', "a.jsonl:2: invalid JSON"),
        ("a.jsonl", '["a"]\n', "a.jsonl:1: expected one JSON object per line"),
        ("a.txt", "https://a.test\nftp://a.test\n", "a.txt:2: 'ftp://a.test' is not an http(s) URL"),
        ("a.xml", "", "unknown type of seed file; its name must end in .csv"),
        ("a.txt", None, "cannot be read: No such file"),
        ("a.txt", b"https://a.test/\xff", "not UTF-8 text"),
    ],
)
def test_invalid_lines_are_reported_with_their_position(
    tmp_path: Path, name: str, text: Any, message: str
) -> None:
    """The error has the file, the line and the mistake."""
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as error:
        list(read_seed_file(str(path)))
    assert message in str(error.value)


def test_seed_files_are_read_lazily(tmp_path: Path) -> None:
    """A hundred thousand lines take no memory, and a mistake after them is found only there."""
    path = tmp_path / "many.csv"
    path.write_text("repo\n" + "".join(f"a{n}\n" for n in range(100_000)) + "x,y\n")
    tracemalloc.start()
    tasks = first_tasks(plan(seed_file=str(path)), lambda *_: Group(), NOW_S)
    assert sum(1 for _ in islice(tasks, 3_000)) == 3_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000
    with pytest.raises(UsageError, match=r"many\.csv:100002: 2 values for 1 columns"):
        for _ in seeds_of(plan(seed_file=str(path)), plan().resources[0]):
            pass


def test_a_seed_may_have_a_priority(tmp_path: Path) -> None:
    """It is a number or a time; if it is neither, the priority is the current time."""
    (tmp_path / "a.csv").write_text("repo,at\na,7\nb,2024-05-01\nc,\n")
    made = plan(seed_file=str(tmp_path / "a.csv"), seed_priority=expression("seed.at"))
    ranks = [task.priority for task in first_tasks(made, lambda *_: Group(), NOW_S)]
    assert ranks == [7.0, 1714521600.0, NOW_S]


def test_a_seed_with_an_invalid_request_is_reported_with_its_position(tmp_path: Path) -> None:
    """The seed is one of many in a file."""
    (tmp_path / "a.csv").write_text("url\nhttps://a.test\nmailto:a\n")
    resource = Resource("r", Endpoint(url=template("${seed.url}")))
    made = Plan("t", "t.yaml", resources=(resource,), seed_file=str(tmp_path / "a.csv"))
    with pytest.raises(UsageError, match=r"a\.csv:3: .*is not an http"):
        list(first_tasks(made, lambda *_: Group(), NOW_S))
