"""`scrapeq state`: show, set and clear the cursors of incremental resources."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_calls import call, json_out

FILE = """\
version: 1
name: t
client: {base_url: "http://127.0.0.1:9/"}
seeds: [{repo: a}, {repo: b}]
resources:
  - name: issues
    endpoint:
      path: "${seed.repo}/issues"
      params: {since: "${incremental.start_value}"}
      incremental: {cursor_path: updated_at, initial_value: 2024-01-01}
  - name: events
    endpoint: {path: "${seed.repo}/events", incremental: {cursor_path: id, initial_value: 0}}
  - {name: notes, endpoint: notes}
"""


@pytest.fixture
def at_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_url: str) -> None:
    """Work in a directory with the file, with the store of the tests."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(FILE)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)


def test_cursors_are_set_shown_and_cleared(
    at_store: None, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are selected by resource and seed; a numeric cursor stays a number."""
    store = ("--redis", store_url)
    assert call(*store, "state") == 0
    assert capsys.readouterr().out == "no cursors stored\n"
    assert call(*store, "state", "set", "--resource", "issues", "--cursor", "2024-05-01") == 0
    assert (
        call(*store, "state", "set", "--resource", "events", "--cursor", "17", "--seed", '{"repo": "b"}') == 0
    )
    assert capsys.readouterr().out == "t: 2 cursors set\nt: 1 cursor set\n"
    assert call(*store, "--json", "state", "show") == 0
    listed = [(one["resource"], one["seed"], one["cursor"]) for one in json_out(capsys)]
    assert listed == [
        ("events", {"repo": "b"}, 17),
        ("issues", {"repo": "a"}, "2024-05-01"),
        ("issues", {"repo": "b"}, "2024-05-01"),
    ]
    assert call(*store, "state", "show", "--resource", "issues") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["RESOURCE", "SEED", "PARENT", "CURSOR", "TOKEN", "SAVED"]
    assert len(lines) == 3
    assert call(*store, "state", "clear", "--resource", "issues", "--seed", '{"repo": "a"}') == 0
    assert call(*store, "state", "set", "--resource", "issues", "--token", "t1") == 0
    assert call(*store, "--json", "state", "clear") == 0
    assert capsys.readouterr().out.endswith('"cleared":3}\n')
    assert call(*store, "state") == 0
    assert capsys.readouterr().out == "no cursors stored\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "--resource", "isues"), "did you mean issues?"),
        (("clear", "--resource", "notes"), "notes is not incremental"),
        (("set", "--resource", "issues"), "state set: give --cursor VALUE or --token TEXT"),
        (("show", "--seed", "a"), "--seed: expected a JSON object, got 'a'"),
        (
            ("set", "--resource", "issues", "--cursor", "1", "--seed", '{"repo": "c"}'),
            "no stored cursor and no seed of issues matches",
        ),
    ],
)
def test_wrong_usage_is_one_error_and_code_2(
    at_store: None, store_url: str, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    """The error says what would be right."""
    assert call("--redis", store_url, "state", *args) == 2
    assert message in capsys.readouterr().err


def test_purging_the_state_deletes_the_cursors(
    at_store: None, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record of the run is deleted too."""
    store = ("--redis", store_url)
    assert call(*store, "state", "set", "--resource", "issues", "--cursor", "2024-05-01") == 0
    assert call(*store, "purge", "--state", "--yes") == 0
    capsys.readouterr()
    assert call(*store, "state") == 0
    assert capsys.readouterr().out == "no cursors stored\n"
