"""What a first-time writer of a file guesses wrong is answered with what would be right."""

from __future__ import annotations

import pytest

from scrapeq.config import load
from scrapeq.errors import ConfigError

HEAD = "version: 1\nname: demo\nclient: {base_url: https://a.test}\nresources:\n"


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("- {name: a, schedule: 15m, endpoint: a}", "must be a map, not a scalar", "{every: 15m}"),
        (
            "- {name: a, endpoint: a, priority: updated_at}",
            "unknown name 'updated_at' (did you mean 'record.updated_at'?)",
            "known here: ",
        ),
        (
            "- a\n- {name: lines, parent: a, endpoint: {data_selector: lines}}",
            "has neither path nor url",
            "without an endpoint parent: {resource: …, each: …} for a list inside the parent's records",
        ),
        ("- {name: a, endpoint: {data_selector: lines}}", "has neither path nor url", "path: a"),
    ],
)
def test_a_guess_is_answered(body: str, message: str, hint: str) -> None:
    """One problem, with its remedy."""
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=HEAD + body + "\n", env={})
    (problem,) = caught.value.problems
    assert problem.message == message
    assert problem.hint is not None and hint in problem.hint
