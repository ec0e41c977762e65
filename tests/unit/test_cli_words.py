"""What the command line makes of what it shows: reasons of dead letters, groups, the help."""

from __future__ import annotations

import pytest

from scrapeq.cli import main
from scrapeq.cli.dead import _reason
from scrapeq.cli.selection import selection
from scrapeq.task import Task


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("503 Service Unavailable", "503 Service Unavailable"),
        ("GET http://a.test:80/x?y=1: no complete response within 30 s", "no complete response within 30 s"),
        ("POST https://a.test/: the body is incomplete: eof", "the body is incomplete"),
        ("the answer (text/html) is no JSON: invalid literal: line 1", "the answer (text/html) is no JSON"),
        ("handler shop.pages:read: KeyError: 'id' (pages.py:3)", "handler shop.pages:read: KeyError"),
        ("on_item a:b: x.y: a set is no JSON value (a.py:1)", "on_item a:b: x.y"),
        ("", "no reason known"),
    ],
)
def test_dead_letters_of_one_kind_have_one_reason(error: str, reason: str) -> None:
    """Without the request and the details, but with what is wrong."""
    assert _reason(Task("1", {}, last_error=error)) == reason


def test_a_group_is_chosen_by_the_name_that_is_shown() -> None:
    """The comma at its end is nothing to know of."""
    task = Task("1", {}, group="core|a.test,")
    assert all(selection(group=name).holds(task) for name in ("core|a.test", "core|a.test,"))
    assert not selection(group="core|b.test").holds(task)


def test_the_command_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """It is no mistake."""
    assert main([]) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.lower().startswith("usage: scrapeq")
    assert all(verb in said.out for verb in ("init", "run", "fetch", "validate"))
