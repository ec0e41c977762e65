"""What incremental walks keep, shown, set and cleared from the command line."""

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
    """A folder with the file, and its store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(FILE)
    monkeypatch.setenv("SCRAPEQ_CONFIG", "t.yaml")
    monkeypatch.setenv("SCRAPEQ_REDIS_URL", store_url)


def test_state_is_set_shown_and_cleared(
    at_store: None, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By resource and seed; a number stays one where there was one."""
    store = ("--redis", store_url)
    assert call(*store, "state") == 0
    assert capsys.readouterr().out == "nothing is kept\n"
    assert call(*store, "state", "set", "--resource", "issues", "--cursor", "2024-05-01") == 0
    assert (
        call(*store, "state", "set", "--resource", "events", "--cursor", "17", "--seed", '{"repo": "b"}') == 0
    )
    assert capsys.readouterr().out == "t: 2 states set\nt: 1 state set\n"
    assert call(*store, "--json", "state", "show") == 0
    shown = [(one["resource"], one["seed"], one["cursor"]) for one in json_out(capsys)]
    assert shown == [
        ("events", {"repo": "b"}, 17),
        ("issues", {"repo": "a"}, "2024-05-01"),
        ("issues", {"repo": "b"}, "2024-05-01"),
    ]
    assert call(*store, "state", "show", "--resource", "issues") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["RESOURCE", "SEED", "PARENT", "CURSOR", "TOKEN", "KEPT"]
    assert len(lines) == 3
    assert call(*store, "state", "clear", "--resource", "issues", "--seed", '{"repo": "a"}') == 0
    assert call(*store, "state", "set", "--resource", "issues", "--token", "t1") == 0
    assert call(*store, "--json", "state", "clear") == 0
    assert capsys.readouterr().out.endswith('"cleared":3}\n')
    assert call(*store, "state") == 0
    assert capsys.readouterr().out == "nothing is kept\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "--resource", "isues"), "did you mean issues?"),
        (("clear", "--resource", "notes"), "notes is not incremental"),
        (("set", "--resource", "issues"), "to what? --cursor VALUE"),
        (("show", "--seed", "a"), "is no JSON object"),
        (("set", "--resource", "issues", "--cursor", "1", "--seed", '{"repo": "c"}'), "none of its seeds"),
    ],
)
def test_what_makes_no_sense_is_said(
    at_store: None, store_url: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """One line that says what would be right, and the code for a wrong use."""
    assert call("--redis", store_url, "state", *words) == 2
    assert said in capsys.readouterr().err


def test_purging_the_state_forgets_what_is_kept(
    at_store: None, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is forgotten, and where its walks would begin."""
    store = ("--redis", store_url)
    assert call(*store, "state", "set", "--resource", "issues", "--cursor", "2024-05-01") == 0
    assert call(*store, "purge", "--state", "--yes") == 0
    capsys.readouterr()
    assert call(*store, "state") == 0
    assert capsys.readouterr().out == "nothing is kept\n"
