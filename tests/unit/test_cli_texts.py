"""Texts of the command line: reasons of dead letters, names of groups, the help."""

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
        ("GET http://a.test:80/x?y=1: no complete response in 30 s", "no complete response in 30 s"),
        ("POST https://a.test/: the body is incomplete: eof", "the body is incomplete"),
        (
            "the response (text/html) is not JSON: invalid literal: line 1",
            "the response (text/html) is not JSON",
        ),
        ("handler shop.pages:read: KeyError: 'id' (pages.py:3)", "handler shop.pages:read: KeyError"),
        ("on_item a:b: x.y: a set is not a JSON value (a.py:1)", "on_item a:b: x.y"),
        ("", "unknown reason"),
    ],
)
def test_similar_dead_letters_have_the_same_reason(error: str, reason: str) -> None:
    """The reason omits the request and the details of the error."""
    assert _reason(Task("1", {}, last_error=error)) == reason


def test_a_group_is_selected_by_its_name_with_or_without_the_final_comma() -> None:
    """The output does not show the comma that ends a group's name."""
    task = Task("1", {}, group="core|a.test,")
    assert all(selection(group=name).matches(task) for name in ("core|a.test", "core|a.test,"))
    assert not selection(group="core|b.test").matches(task)


def test_the_command_without_arguments_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """This is not an error."""
    assert main([]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.lower().startswith("usage: scrapeq")
    assert all(verb in printed.out for verb in ("init", "run", "fetch", "validate"))


VERBS = [
    *(["init"], ["run"], ["scheduler"], ["status"], ["peek"], ["seed"], ["purge"], ["validate"], ["schema"]),
    *(["plan"], ["fetch"], ["limits"], ["limits", "show"], ["limits", "set"], ["limits", "clear"]),
    *(["dead"], ["dead", "list"], ["dead", "show"], ["dead", "redrive"], ["dead", "drop"]),
    *(["state"], ["state", "show"], ["state", "set"], ["state", "clear"]),
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_help_of_every_verb_has_an_example(capsys: pytest.CaptureFixture[str], verb: list[str]) -> None:
    """The example is an indented command line."""
    assert main([*verb, "--help"]) == 0
    help_text = capsys.readouterr().out
    assert any(line.startswith("      scrapeq ") for line in help_text.splitlines()), help_text
