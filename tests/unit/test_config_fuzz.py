"""Arbitrary bytes and values either load as a plan or raise ConfigError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapeq.config import load
from scrapeq.errors import ConfigError

HEAD = "version: 1\nname: demo\nclient: {base_url: https://a.test}\n"
WORDS = [
    *[
        "version: 1",
        "name: a",
        "resources:",
        "- ",
        "  ",
        "\n",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "*a",
        "&a ",
        "<<: ",
        "#",
    ],
    *[
        "client",
        "endpoint",
        "path",
        "parent",
        "seeds",
        "rates",
        "limit",
        "'",
        '"',
        "\t",
        "|",
        ">",
        "---",
        "${env:X}",
    ],
    *[
        "${seed.a}",
        "!!set ",
        "? ",
        "1",
        "-5",
        "1e400",
        "true",
        "null",
        "~",
        "\\d",
        "paginator",
        "type",
        "cursor",
        "x-a",
    ],
]


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from(WORDS), max_size=40).map(lambda words: "".join(words).encode())
)
def test_arbitrary_bytes_load_or_raise_config_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """The problems of any file can be printed."""
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(data)
    try:
        load(file, env={})
    except ConfigError as error:
        assert error.problems
        assert str(error)


KEYS = [
    "type",
    "path",
    "each",
    "a",
    "url",
    "value",
    "default",
    "login",
    "data",
    "file",
    "urls",
    "cron",
    "size",
]
FRAGMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        ["a", "1m", "-1", "${x}", "${env:X}", "re:(", "$[", "", "offset", "session", "http://[", "\x00"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=4,
)
PATHS = [
    *[
        "redis",
        "queue",
        "run",
        "client",
        "client.auth",
        "client.headers",
        "rate_limits",
        "response_actions",
        "seeds",
    ],
    *[
        "outputs",
        "resource_defaults",
        "resources",
        "resources[0].endpoint",
        "resources[0].parent",
        "version",
        "name",
    ],
    *[
        "resources[0].endpoint.paginator",
        "resources[0].fields",
        "resources[0].priority",
        "resources[0].endpoint.json",
    ],
    *[
        "resource_defaults.endpoint",
        "rate_limits[0].rates",
        "rate_limits[0].match",
        "response_actions[0].wait",
    ],
    *[
        "resource_defaults.endpoint.paginator",
        "resources[0].seeds",
        "rate_limits[0].observe",
        "crawl",
        "resources[0]",
    ],
    *[
        "resources[0].endpoint.incremental",
        "resources[0].endpoint.decoder",
        "resources[0].schedule",
        "resources[0].fields.x",
        "outputs[0].rotate",
        "client.cache",
        "client.http2",
    ],
]


@given(st.sampled_from(PATHS), FRAGMENTS)
def test_arbitrary_value_of_any_key_loads_or_raises_config_error(path: str, value: Any) -> None:
    """Overrides one key of a valid file with a value of any type."""
    base = HEAD + "rate_limits: [{name: l, max_concurrency: 1}]\nresources: [a]\n"
    base += "response_actions: [{match: {status: 403}, action: retry}]\noutputs: [{type: jsonl, path: a}]\n"
    try:
        load("a.yaml", text=base, env={}, overrides={path: value})
    except ConfigError as error:
        assert error.problems
        assert str(error)


def test_aliases_that_expand_exponentially_are_rejected() -> None:
    """Nine levels of nine aliases are a few hundred bytes and would expand to a billion values."""
    lines = ["x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(ConfigError, match="aliases counted each time"):
        load("a.yaml", text="\n".join(lines))


def test_deeply_nested_aliases_are_rejected() -> None:
    """A thousand anchors, each containing the previous one, are as deep as a thousand brackets."""
    lines = ["x-0: &a0 [1]", *(f"x-{n}: &a{n} [*a{n - 1}]" for n in range(1, 1000))]
    with pytest.raises(ConfigError, match="nested deeper than"):
        load("a.yaml", text="\n".join(lines))


def test_deep_nesting_is_rejected() -> None:
    """A hundred thousand brackets raise ConfigError instead of exhausting the stack."""
    with pytest.raises(ConfigError, match="nested deeper than"):
        load("a.yaml", text="a: " + "[" * 100_000)
