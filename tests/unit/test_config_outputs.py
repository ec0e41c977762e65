"""Loading outputs, masking their passwords, and the messages for invalid ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scrapeq.config import describe, load
from scrapeq.errors import ConfigError
from scrapeq.plan import Output

HEAD = "version: 1\nname: demo\nclient: {base_url: https://a.test}\nresources: [a, b]\n"
ENV = {"DB": "postgres://u:s3cret@h/d", "PW": "s3cret", "HOST": "db.test"}


def outputs(text: str) -> tuple[Output, ...]:
    """Return the outputs of a file."""
    return load("a.yaml", text=f"{HEAD}outputs: {text}\n", env=ENV).outputs


def reported(text: str) -> str:
    """Return the message of the ConfigError that the outputs of a file raise."""
    with pytest.raises(ConfigError) as caught:
        outputs(text)
    return str(caught.value)


KINDS: list[tuple[str, dict[str, Any]]] = [
    (
        "{type: jsonl, path: o.jsonl.gz, rotate: {size: 100MB, every: 1d}}",
        {"rotate_bytes": 10**8, "rotate_s": 86400},
    ),
    ("{type: csv, path: o.csv, write_disposition: append, resources: [a]}", {"resources": ("a",)}),
    ("{type: parquet, path: o/, rotate: {size: 1GiB}}", {"rotate_bytes": 1 << 30, "rotate_s": None}),
    ("{type: warc, path: o/}", {"type": "warc"}),
    ("stdout", {"type": "stdout", "path": None, "table": None}),
    ("{type: sqlite, path: o.db, write_disposition: merge}", {"write_disposition": "merge"}),
    ("{type: postgres, url: '${env:DB}'}", {"url": "postgres://u:s3cret@h/d"}),
    ("{type: postgres, url: 'postgresql://u@${env:HOST}/d'}", {"url": "postgresql://u@db.test/d"}),
    ("{type: postgres, url: 'postgres://u:${env:PW}@h/d'}", {"url": "postgres://u:s3cret@h/d"}),
    (
        "{type: postgres, url: 'postgres://u@h/d?password=${env:PW}'}",
        {"url": "postgres://u@h/d?password=s3cret"},
    ),
    (
        "{type: postgres, url: 'postgres:///d?host=/run/postgresql'}",
        {"url": "postgres:///d?host=/run/postgresql"},
    ),
]


@pytest.mark.parametrize(("text", "expected"), KINDS)
def test_each_kind_of_output_is_read(text: str, expected: dict[str, Any]) -> None:
    """Covers all seven types and their keys."""
    (output,) = outputs(text)
    assert {name: getattr(output, name) for name in expected} == expected


def test_table_is_named_after_its_resource_by_default() -> None:
    """`${resource}` and `${seed.x}` are available in names of files and tables."""
    first, second = outputs(
        "[{type: sqlite, path: o.db}, {type: sqlite, path: p.db, table: 'x_${resource}'}]"
    )
    assert first.table is not None and first.table.render({"resource": "a"}) == "a"
    assert second.table is not None and second.table.render({"resource": "a"}) == "x_a"
    text = HEAD + "seeds: [{repo: r}]\noutputs: {type: csv, path: '${seed.repo}/${resource}.csv'}\n"
    (output,) = load("a.yaml", text=text, env={}).outputs
    assert output.path is not None
    assert output.path.render_path({"seed": {"repo": "r"}, "resource": "a"}) == "r/a.csv"


@pytest.mark.parametrize(
    "url", ["${env:DB}", "postgres://u:${env:PW}@h/d", "postgres://u@h/d?password=${env:PW}"]
)
def test_database_password_is_never_displayed(url: str) -> None:
    """`repr` omits it, and `describe` returns the URL as written."""
    made = load("a.yaml", text=f"{HEAD}outputs: {{type: postgres, url: '{url}'}}\n", env=ENV)
    assert describe(made)["outputs"][0]["url"] == url
    assert "s3cret" not in repr(made) + json.dumps(describe(made))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{type: jsonl}]", "outputs[0].path: is missing\n  path: out/${resource}.jsonl"),
        ("{type: postgres}", 'url: is missing\n  url: "${env:DATABASE_URL}"'),
        (
            "{type: postgres, url: 'postgres://u:hunter2@h/d'}",
            "url: a secret in clear text\n  url: ${env:DEMO_DATABASE_URL}",
        ),
        ("{type: postgres, url: 'postgres://u@h/d?password=hunter2'}", "a secret in clear text"),
        ("{type: postgres, url: 'postgres://u:hunter2@${env:HOST}/d'}", "a secret in clear text"),
        ("{type: postgres, url: 'mysql://h/d'}", "must start with postgres:// or postgresql://"),
        ("{type: postgres, url: '${env:PW}'}", "must start with postgres:// or postgresql://"),
        ("{type: jsonl, path: o, table: t}", "unknown key 'table'\n  table belongs to type sqlite"),
        ("{type: jsonl, path: o, rotate: {}}", "rotate: has neither size nor every"),
        ("{type: jsonl, path: o, rotate: {size: 5}}", "5 has no unit: 5B, 5KB or 5MB?"),
        (
            "{type: csv, path: o, write_disposition: merge}",
            "csv output is append-only, so it cannot replace records\n  write append or append_changes",
        ),
        ("{type: csv, path: o, write_disposition: replace}", "unknown write_disposition 'replace'"),
        (
            "{type: jsonl, path: '{resource}.x'}",
            "{…} is not replaced\n  placeholders are written ${resource}",
        ),
        (
            "[{type: jsonl, path: o}, {type: csv, path: o}]",
            "outputs[1].path: writes to the same file as outputs[0]",
        ),
        ("[{type: jsonl, path: o}, {type: sqlite, path: o}]", "the same file as outputs[0]"),
        (
            "[{type: sqlite, path: o}, {type: sqlite, path: o}]",
            "outputs[1].path: writes to the same table as outputs[0]",
        ),
        ("[stdout, stdout]", "outputs[1].type: writes to the same file as outputs[0]"),
        ("{type: jsonl, path: 'o/${seed.x}'}", "seed is used, but there are no seeds"),
        ("{type: parquett, path: o}", "unknown type 'parquett'\n  did you mean parquet?"),
    ],
)
def test_invalid_output_is_rejected(text: str, message: str) -> None:
    """The message names the field and does not contain secrets."""
    found = reported(text)
    assert message in found
    assert "hunter2" not in found and "s3cret" not in found


def test_several_outputs_may_share_a_database() -> None:
    """Their tables or their resources must differ."""
    made = outputs("[{type: sqlite, path: o, resources: a}, {type: sqlite, path: o, resources: b}]")
    assert [output.resources for output in made] == [("a",), ("b",)]
    assert len(outputs("[{type: sqlite, path: o}, {type: sqlite, path: o, table: 'h_${resource}'}]")) == 2
