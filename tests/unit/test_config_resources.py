"""Loading schedules, functions, seeds, fields and actions, and the messages for invalid ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from config_texts import HEAD, plan, reported

from scrapeq.config import load, resource_terms
from scrapeq.errors import ConfigError
from scrapeq.expression import Expression, compile_expression
from scrapeq.plan import Field, Schedule
from scrapeq.resource import seeds


def test_schedules_are_read() -> None:
    """A schedule is an interval, or a cron expression in a time zone."""
    first, second = plan(
        HEAD
        + "resources:\n- {name: a, endpoint: a, schedule: {every: 15m}}\n"
        + "- {name: b, endpoint: b, schedule: {cron: 30 16 * * mon-fri, timezone: Europe/Berlin}}\n"
    ).resources
    assert first.schedule == Schedule(900.0)
    assert second.schedule == Schedule(cron="30 16 * * mon-fri", timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schedule: {cron: '61 * * * *'}", "'61 * * * *' is not a cron expression: bad minute"),
        (
            "schedule: {cron: '* * *'}",
            "is not a cron expression: wrong number of fields\n  minute hour day-of-month",
        ),
        ("schedule: {cron: '0 0 31 2 *'}", "is not a cron expression: bad day-of-month"),
        ("schedule: {cron: '* * * * *', every: 1h}", "every and cron are mutually exclusive"),
        ("schedule: {every: 1h, timezone: UTC}", "timezone needs cron"),
        ("schedule: {timezone: UTC}", "has neither every nor cron\n  every: 15m"),
        (
            "schedule: {cron: '* * * * *', timezone: Europe/Berlim}",
            "unknown time zone 'Europe/Berlim'\n  did you mean Europe/Berlin?",
        ),
        ("schedule: 15m", "must be a map, not a scalar"),
    ],
)
def test_invalid_schedule_is_rejected(text: str, message: str) -> None:
    """The mistake is found when the file is read."""
    assert message in reported(HEAD + f"resources: [{{name: a, endpoint: b, {text}}}]\n")


def test_schedule_applies_to_root_resources_only() -> None:
    """A parent starts its children, so they inherit neither schedule nor seeds from the defaults."""
    tree = "resources: [{name: a, endpoint: a}, {name: b, parent: a, endpoint: b%s}]\n"
    assert "started by its parent" in reported(HEAD + tree % ", schedule: {every: 1h}")
    defaults = "resource_defaults: {schedule: {every: 1h}, seeds: [{x: 1}]}\n"
    first, child = plan(HEAD + defaults + tree % "").resources
    assert (first.schedule, child.schedule) == (Schedule(3600.0), None)
    assert (first.seeds, child.seeds) == (({"x": 1},), ())


def test_functions_are_read_by_name() -> None:
    """Functions are written `package.module:function`; reading the file does not import them."""
    text = (
        HEAD + "resources: [{name: a, endpoint: b, handler: acme.pages:read, on_page: x:y.z, on_item: x:i}]\n"
    )
    made = plan(text).resources[0]
    assert (made.handler, made.on_page, made.on_item) == ("acme.pages:read", "x:y.z", "x:i")
    assert (
        "'acme.pages.read' is not a function, package.module:name\n  for example acme.pages:read"
        in reported(text.replace("pages:read", "pages.read"))
    )


def test_response_names_are_available_in_response_actions_and_observe() -> None:
    """The names are available in `when`, `wait`, `message` and `observe`."""
    names = [
        "host",
        "token",
        "depth",
        "page",
        "task",
        "resource",
        "parent",
        "seed",
        "resources.a.id",
        "status",
    ]
    text = (
        HEAD + f"response_actions:\n- match: {{when: '{' + '.join(names)}'}}\n  action: poll\n  wait: depth\n"
    )
    text += "  message: '${host} ${task} ${token}'\nresources: [a]\nseeds: [{x: 1}]\n"
    text += "rate_limits: [{name: l, observe: {bucket: host}}]\n"
    (action,) = plan(text).response_actions
    assert action.match.when is not None and set(names) - {"resources.a.id"} <= action.match.when.names
    assert isinstance(action.wait[0], Expression)


@pytest.mark.parametrize("action", ["poll", "refresh_auth", "reset_pagination"])
def test_each_action_is_implemented(action: str) -> None:
    """The action loads."""
    text = HEAD + f"response_actions: [{{match: {{status: 202}}, action: {action}}}]\nresources: [a]\n"
    assert plan(text).response_actions[0].action == action


def test_seed_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    """Loading reads only the column names of a CSV file, which are the keys of its seeds."""
    (tmp_path / "repos.csv").write_text("\ufeffowner,repo\nocto,tools\n")
    text = HEAD + "seeds: {file: repos.csv, priority: seed.stars + now}\n"
    text += "resources: [{name: a, endpoint: '${seed.%s}'}]\n"
    with pytest.raises(ConfigError, match=r"(?s)no seed has the key 'repos'.*did you mean repo\?"):
        load(tmp_path / "a.yaml", text=text % "repos", env={})
    made = load(tmp_path / "a.yaml", text=text.replace("stars", "repo") % "repo", env={})
    assert made.seed_file == str(tmp_path / "repos.csv")
    assert made.seed_priority == compile_expression("seed.repo + now")
    assert made.seeds == ()


def test_resource_may_have_its_own_seed_file(tmp_path: Path) -> None:
    """The keys of seeds in a JSON Lines file are unknown, so any key is accepted."""
    (tmp_path / "ids.jsonl").write_text('{"id": 1}\n')
    text = HEAD + "resources: [{name: a, seeds: {file: ids.jsonl}, endpoint: '${seed.id}'}]\n"
    assert load(tmp_path / "a.yaml", text=text, env={}).resources[0].seed_file == str(tmp_path / "ids.jsonl")


def test_urls_are_seeds() -> None:
    """An endpoint without a path requests them unchanged."""
    made = plan(
        HEAD
        + "seeds: {urls: ['https://a.test/x?y', 'http://b.test']}\nresources: [{name: a, endpoint: {}}]\n"
    )
    assert made.seeds == ({"url": "https://a.test/x?y"}, {"url": "http://b.test"})
    assert made.seed_priority is None


def test_language_accepts_exactly_the_readable_seed_files() -> None:
    """The language and the reader of seed files list the same suffixes."""
    assert resource_terms.SEED_FILES == seeds.SEED_FILES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{file: nothing.csv}", "seeds.file: the file nothing.csv does not exist in "),
        (
            "{file: a.xlsx}",
            "'a.xlsx' is not a supported kind of seed file\n  one of .csv, .jsonl, .ndjson, .txt",
        ),
        ("{urls: [a.test]}", "seeds.urls[0]: the URL must start with http:// or https://"),
        ("{urls: []}", "seeds.urls: is empty"),
        ("{urls: ['https://a.test'], file: a.csv}", "file and urls are mutually exclusive"),
        ("{sitemap: auto}", "seeds.sitemap: not implemented in this version"),
        ("{urls: 'https://a.test', priority: record.x}", "unknown name 'record'"),
        ("{repo: a}", "must be a list, not a map\n  seeds: [{name: value}], or {file: seeds.csv}"),
        ("[]", "is empty"),
    ],
)
def test_invalid_seeds_are_rejected(text: str, message: str) -> None:
    """The message names the field."""
    assert message in reported(HEAD + f"seeds: {text}\nresources: [a]\n")


def test_seed_file_may_be_missing_without_inputs(tmp_path: Path) -> None:
    """With `inputs=False` a missing file is accepted, but an invalid one is not."""
    text = HEAD + "seeds: {file: x.csv}\nresources: [{name: a, endpoint: '${seed.x}'}]\n"
    made = load(tmp_path / "a.yaml", text=text, env={}, inputs=False)
    assert made.seed_file == str(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"the first line of x.csv must name the columns, each once"):
        load(tmp_path / "a.yaml", text=text, env={}, inputs=False)


FIELDS: list[tuple[str, Any]] = [
    ("id", "id"),
    ("{path: a.b}", "a.b"),
    ("{value: record.a + 1}", compile_expression("record.a + 1")),
    ("{path: a, type: float}", Field("a", type="float")),
    ("{path: a, regex: '([\\d.]+)', all: true}", Field("a", regex=r"([\d.]+)", all=True)),
    (
        "{value: record.a, required: true}",
        Field(value=compile_expression("record.a"), required=True),
    ),
    ("{path: a, default: none of it}", Field("a", default="none of it")),
    ("{path: a, default: [1]}", Field("a", default=[1])),
    ("{path: a, default: {path: b}}", Field("a", default=Field("b"))),
    (
        "{path: a, default: {value: now, type: time, default: 0}}",
        Field("a", default=Field(value=compile_expression("now"), type="time", default=0)),
    ),
]


@pytest.mark.parametrize(("text", "expected"), FIELDS)
def test_fields_are_read(text: str, expected: Any) -> None:
    """A field is a path, an expression, or a map; a default is a value or a map like that of a field."""
    assert plan(HEAD + f"resources: [{{name: a, endpoint: b, fields: {{f: {text}}}}}]\n").resources[
        0
    ].fields == {"f": expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{type: int}", "needs either path or value"),
        ("{path: a, value: record.b}", "needs either path or value"),
        ("{path: a, type: integer}", "unknown type 'integer'\n  did you mean"),
        ("{path: a, regex: '('}", "not a valid regular expression: missing )"),
        ("{path: a, default: {type: int}}", "fields.f.default: needs either path or value"),
        ("h1::text", "a CSS path is not implemented"),
        ("{css: h1}", "fields.f.css: not implemented"),
        ("{path: a, requird: true}", "unknown key 'requird'\n  did you mean required?"),
    ],
)
def test_invalid_field_is_rejected(text: str, message: str) -> None:
    """The message names the field."""
    assert message in reported(HEAD + f"resources: [{{name: a, endpoint: b, fields: {{f: {text}}}}}]\n")


def test_invalid_names_and_rates_of_limits_are_rejected() -> None:
    """Covers the name of the implicit limit, a long name, and too many rates."""
    text = HEAD + "rate_limits: [{name: %s, max_concurrency: 1}]\nresources: [a]\n"
    assert "'default' is reserved for the limit of all requests that no rule matches" in reported(
        text % "default"
    )
    assert "(at most 64)" in reported(text % ("x" * 65))
    rates = ", ".join(["{limit: 1, interval: 1s}"] * 9)
    assert "rates: has 9 elements; at most 8 are allowed" in reported(
        text.replace("max_concurrency: 1", f"rates: [{rates}]") % "a"
    )


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ("resources: [{name: a, endpoint: {path: b, incremental: {cursor_field: c}}}]", "cursor_path"),
        ("resources: [{name: a, endpoint: {path: b, incremental_sync: {}}}]", "incremental"),
        ("resources: [{name: a, endpoint: b, columns: {}}]", "fields"),
        ("resources: [a]\noutputs: [{type: jsonl, filename: b}]", "path"),
        ("resources: [a]\noutputs: [{type: sqlite, path: b, if_exists: replace}]", "write_disposition"),
    ],
)
def test_key_of_another_tool_gets_our_key_as_a_hint(text: str, here: str) -> None:
    """The hint names the key with the same meaning."""
    assert f"unknown key\n  here it is called {here}" in reported(HEAD + text + "\n")
