"""Loading configuration files into plans: keys, defaults, environment, flags, `describe` and `schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scrapeq.config import describe, load, schema
from scrapeq.errors import ConfigError
from scrapeq.expression import Expression, Template
from scrapeq.plan import Auth, Exponential, Match, Observe, Plan, Rate

EXAMPLES = sorted((Path(__file__).parent.parent / "data" / "config").glob("*.yaml"))
SITES = {"catalogue.yaml", "handbook.yaml"}  # they use keys that are not implemented
HEAD = "version: 1\nname: demo\nclient: {base_url: https://a.test}\n"
ENV = {
    **dict.fromkeys(("CONTACT", "SHOP", "DESK"), "acme"),
    **{f"{name}_TOKEN": f"{name}-secret" for name in ("SHOP", "CHAT", "DESK")},
    "CODE_TOKENS": "one-secret",
    "PAY_KEY": "pay-secret",
    "DESK_EMAIL": "a@b.test",
    "DATABASE_URL": "postgres://d/e",
}


def plan(text: str, env: dict[str, str] | None = None, **overrides: Any) -> Plan:
    """Return the plan of a text; `a__b=1` overrides `a.b`."""
    flags = {key.replace("__", "."): value for key, value in overrides.items()}
    return load("a.yaml", text=text, env=env or {}, overrides=flags)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_loads_or_uses_unimplemented_keys_only(file: Path) -> None:
    """None of the examples has an unknown key or another mistake."""
    try:
        assert load(file, env=ENV).name
        assert file.name not in SITES
    except ConfigError as error:
        assert file.name in SITES, str(error)
        assert {p.message.partition("not implemented")[1] for p in error.problems} == {"not implemented"}, (
            str(error)
        )


def test_minimal_file_gets_the_defaults_of_the_plan() -> None:
    """Absent keys have the default values of the plan's classes."""
    made = plan(HEAD + "resources: [charges]\n")
    bare = Plan("demo", "a.yaml", client=made.client, resources=made.resources)
    assert describe(made) == describe(bare)
    assert made.client.base_url == "https://a.test"
    endpoint = made.resources[0].endpoint
    assert endpoint is not None and endpoint.path is not None
    assert endpoint.path.render_path({}) == "charges"


FULL = """
version: 1
name: acme
redis: {url: redis://store:6379/1, durability: strict}
queue: {max_tasks: 500, on_full: reject}
run: {workers: 4, concurrency: 8, grace: 1m30s}
client:
  base_url: demo://
  headers: {Acme-Version: 2024-01-01, X-Number: 1.10, X-Flag: true}
  timeout: 500ms
  max_body_size: 2MiB
  allow_hosts: files.acme.test
x-common: &common {per_page: 100}
rate_limits:
  - name: core
    match: {resource: issues, method: get, host: "*.test", path: "re:^/issues"}
    partition_by: [host, seed.repo]
    rates: [{limit: 30, interval: 1m, burst: 5}, {limit: 0.5, interval: 1s}]
    max_concurrency: 3
    observe: none
  - {name: all, partition_by: [], max_concurrency: 9}
response_actions:
  - match: {status: [403, 5XX], exception: timeout, when: "contains(text, 'slow')"}
    action: rate_limited
    scope: core
    wait: [retry_after, {exponential: {base: 60s, max: 1h}}, 5s]
    max_wait: 6h
    on_exceed: stop
    message: "${status}: ${body.error}"
seeds: [{repo: a, country: NO, since: 2024-01-01, id: 0000012345, n: 5}]
resource_defaults:
  primary_key: id
  endpoint: {params: *common, paginator: {type: cursor, cursor_path: next}}
resources:
  - name: issues
    endpoint:
      path: repos/${seed.repo}/issues
      method: post
      params: {since: "${if(true, null)}", v: 1.10, per_page: null, "a[b]": "${seed.repo}"}
      json: {query: "query { repo { id } }", first: 5, deep: [{x: "${seed.n}"}]}
      decoder: json
      data_selector: $.items
      paginator: {type: page_number, base_page: 0, maximum_page: 9, stop_when: length(records) < 100}
    record_filter: not record.locked
    fields: {id: id, day: {value: "date(record.updated_at, '%Y-%m-%d')"}}
    priority: record.updated_at
    response_actions: [{match: {status: 404}, action: ignore}]
  - name: comments
    parent:
      - {resource: issues, when: parent.comments > 0, priority: parent.updated_at}
      - comments
    primary_key: null
    endpoint: {url: "${raw(parent.comments_url)}", paginator: single_page}
    include_from_parent: number
    selected: false
  - {name: labels, parent: {resource: issues, each: labels}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl", resources: [issues, comments]}]
"""


def test_every_key_of_a_full_file_is_read_into_the_plan() -> None:
    """Each key ends up in its field of the plan."""
    made = plan(FULL)
    assert (made.redis.url, made.redis.durability) == ("redis://store:6379/1", "strict")
    assert (made.queue.max_tasks, made.queue.on_full) == (500, "reject")
    assert (made.run.workers, made.run.concurrency, made.run.grace_s) == (4, 8, 90.0)
    assert made.client.headers == {"Acme-Version": "2024-01-01", "X-Number": "1.10", "X-Flag": True}
    assert (made.client.timeout_s, made.client.max_body_size) == (0.5, 2 << 20)
    assert made.client.allow_hosts == ("files.acme.test",)
    core, whole = made.rate_limits
    assert core.match == Match(("issues",), ("GET",), ("*.test",), ("re:^/issues",))
    assert core.rates == (Rate(30, 60.0, 5), Rate(0.5, 1.0))
    assert (core.partition_by, core.observe, whole.partition_by) == (("host", "seed.repo"), "none", ())
    (action,) = made.response_actions
    assert (action.match.status, action.match.exception) == ((403, "5xx"), ("timeout",))
    assert isinstance(action.wait[0], Expression)
    assert action.wait[1:] == (Exponential(60.0, 3600.0), 5.0)
    assert (action.scope, action.max_wait_s, action.on_exceed) == ("core", 21600.0, "stop")
    assert made.resource_actions["issues"][0].match.status == (404,)
    assert made.seeds == ({"repo": "a", "country": "NO", "since": "2024-01-01", "id": "0000012345", "n": 5},)


def test_resource_defaults_are_merged_into_resources() -> None:
    """Maps merge, other values replace, null removes; another paginator or address replaces the default."""
    made = plan(FULL)
    issues, comments, labels = made.resources
    assert issues.endpoint is not None and comments.endpoint is not None
    params = issues.endpoint.params
    assert params["v"] == "1.10"
    assert isinstance(params["since"], Template)
    assert "per_page" not in params
    assert comments.endpoint.params == {"per_page": 100}
    assert issues.endpoint.paginator.type == "page_number"
    assert (issues.endpoint.paginator.base_page, issues.endpoint.paginator.cursor_path) == (0, "")
    assert comments.endpoint.paginator.type == "single_page"
    assert issues.endpoint.json["query"] == "query { repo { id } }"
    assert issues.endpoint.json["deep"][0]["x"].render({"seed": {"n": 5}}) == 5
    assert issues.primary_key == ("id",)
    assert comments.primary_key == ()
    assert [parent.resource for parent in comments.parents] == ["issues", "comments"]
    assert labels.endpoint is None
    assert labels.parents[0].each == "labels"
    assert issues.fields["id"] == "id"
    assert isinstance(issues.fields["day"], Expression)


def test_override_of_an_alias_does_not_change_its_anchor() -> None:
    """An override changes only the value that it names."""
    text = (
        HEAD
        + "x-e: &e {path: a, params: {n: 1}}\nresources: [{name: a, endpoint: *e}, {name: b, endpoint: *e}]\n"
    )
    made = plan(text, resources__a__endpoint__params__n=2)
    assert [r.endpoint.params["n"] for r in made.resources if r.endpoint] == [2, 1]


def test_merge_key_adds_absent_keys_only() -> None:
    """`<<` merges an anchor's map; the keys next to it take precedence."""
    made = plan(
        HEAD
        + "x-p: &p {a: 1, b: 2}\nresources:\n  - name: a\n    endpoint: {path: a, params: {<<: *p, b: 3}}\n"
    )
    assert made.resources[0].endpoint is not None
    assert made.resources[0].endpoint.params == {"a": 1, "b": 3}


AUTHS: list[tuple[str, Auth]] = [
    ("none", Auth()),
    ("{type: bearer, token: '${env:T}'}", Auth("bearer", token="s3cret")),
    ("{type: bearer, tokens: ' ${env:T}, '}", Auth("bearer", token="s3cret")),
    ("{type: bearer, tokens: ['${env:T}']}", Auth("bearer", token="s3cret")),
    ("{type: bearer, tokens: '${env:T},${env:T}2'}", Auth("bearer", "s3cret", tokens=("s3cret", "s3cret2"))),
    (
        "{type: bearer, tokens: ['${env:T}', '${env:T}2']}",
        Auth("bearer", "s3cret", tokens=("s3cret", "s3cret2")),
    ),
    (
        "{type: api_key, name: key, location: query, api_key: '${env:T}'}",
        Auth("api_key", "s3cret", "key", "query"),
    ),
    ("{type: http_basic, username: '${env:T}/x', password: ''}", Auth("http_basic", username="s3cret/x")),
]


@pytest.mark.parametrize(("auth", "expected"), AUTHS)
def test_credentials_come_from_the_environment_and_are_masked(auth: str, expected: Auth) -> None:
    """Every type of auth is read; neither `repr` nor `describe` contains a secret."""
    made = plan(
        "version: 1\nname: a\nclient:\n  base_url: https://a.test\n  auth: " + auth + "\nresources: [a]",
        {"T": "s3cret"},
    )
    assert made.client.auth == expected
    assert "s3cret" not in repr(made)
    assert "s3cret" not in json.dumps(describe(made))


def test_secret_is_read_from_a_file(tmp_path: Path) -> None:
    """`${file:...}` is relative to the configuration file; a trailing line break is removed."""
    (tmp_path / "token").write_text("s3cret\n")
    file = tmp_path / "a.yaml"
    auth = "client: {base_url: demo://, auth: {type: bearer, token: '${file:token}'}}"
    file.write_text(f"version: 1\nname: a\n{auth}\nresources: [a]\n")
    assert load(file, env={}).client.auth.token == "s3cret"
    file.write_text(file.read_text().replace("file:token", "file:nothing"))
    with pytest.raises(ConfigError, match="the file nothing cannot be read: No such file"):
        load(file, env={})


def test_environment_variables_fill_any_value_and_are_never_parsed() -> None:
    """Numeric text becomes a number, defaults replace unset and empty variables, `${` in a value stays literal."""
    text = HEAD + "run: {workers: '${env:N:-3}'}\nresources: [{name: a, endpoint: 'x/${env:P}/${now}'}]\n"
    made = plan(text, {"P": "${boom}", "N": ""})
    assert made.run.workers == 3
    assert made.resources[0].endpoint is not None and made.resources[0].endpoint.path is not None
    assert made.resources[0].endpoint.path.render_path({"now": 1}) == "x/${boom}/1"


def test_flags_override_the_environment_which_overrides_the_file() -> None:
    """The order is flag, SCRAPEQ_* variable, YAML, default."""
    text = HEAD + "run: {workers: 2}\nresources: [a]\n"
    env = {"SCRAPEQ_WORKERS": "3", "SCRAPEQ_REDIS_URL": "redis://r", "SCRAPEQ_CONCURRENCY": "7"}
    assert plan(text).run.workers == 2
    made = plan(text, env)
    assert (made.run.workers, made.run.concurrency, made.redis.url) == (3, 7, "redis://r")
    assert plan(text, env, run__workers="4").run.workers == 4
    assert plan(text, env, run__workers=5).run.workers == 5


def test_problem_of_a_flag_names_the_flag() -> None:
    """A problem of a flag or variable names it instead of a line of the file."""
    with pytest.raises(ConfigError, match=r"the flag run.workers: run.workers: 0 is too small"):
        plan(HEAD + "resources: [a]\n", run__workers=0)
    with pytest.raises(ConfigError, match=r"SCRAPEQ_WORKERS: run.workers: 'x' is not a whole number"):
        plan(HEAD + "resources: [a]\n", {"SCRAPEQ_WORKERS": "x"})
    with pytest.raises(ConfigError, match="this path does not exist"):
        plan(HEAD + "resources: [a]\n", resources__b__selected=False)


def test_flag_sets_list_elements_and_replaces_shorthands() -> None:
    """List elements are addressed by index or name; values are parsed as YAML."""
    flags = {"resources[0].endpoint.params": "{a: 1}", "resources.b.endpoint": "c/d", "client.timeout": "1m"}
    made = load("a.yaml", text=HEAD + "resources: [a, b]\n", env={}, overrides=flags)
    assert [r.endpoint.params for r in made.resources if r.endpoint] == [{"a": 1}, {}]
    assert made.resources[1].endpoint is not None and made.resources[1].endpoint.path is not None
    assert made.resources[1].endpoint.path.source == "c/d"
    assert made.client.timeout_s == 60.0
    quoted = load(
        "a.yaml", text=HEAD + "resources: [a]\n", env={}, overrides={"client.user_agent": "'a # b'"}
    )
    assert quoted.client.user_agent == "a # b"


def observed(text: str) -> Observe | str:
    """Return the `observe` of the only limit of a file."""
    limits = f"rate_limits: [{{name: a, rates: [{{limit: 1, interval: 1s}}], observe: {text}}}]\n"
    (rule,) = plan(HEAD + limits + "resources: [a]\n").rate_limits
    return rule.observe


def test_observe_is_a_preset_or_expressions_or_both() -> None:
    """A string is a preset; a map may contain a preset, expressions and the format of a reset."""
    assert observed("github") == observed("{preset: github}") == Observe("github")
    assert observed("none") == observed("{preset: none}") == "none"
    assert observed("auto") == Observe()
    made = observed("{reset: \"header('x-left')\", reset_format: delta_ms}")
    assert isinstance(made, Observe) and made.reset is not None
    assert (made.preset, made.reset.source, made.reset_format) == ("auto", "header('x-left')", "delta_ms")
    assert made.as_written() == {"reset": "header('x-left')", "reset_format": "delta_ms"}
    own = observed("{preset: none, remaining: body.left}")
    assert isinstance(own, Observe) and own.as_written() == {"preset": "none", "remaining": "body.left"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{preset: githb}", "observe.preset: unknown preset 'githb'\n.*did you mean github?"),
        ("gitlb", "observe: unknown observe 'gitlb'\n.*did you mean gitlab?"),
        ("{remainig: body.left}", "observe.remainig: unknown key 'remainig'\n.*did you mean remaining?"),
        ("{wait: bdy.left}", r"observe.wait: unknown name 'bdy' \(did you mean 'body'\?\)"),
        (
            "{reset: body.at, reset_format: delta-ms}",
            "unknown reset_format 'delta-ms'\n.*did you mean delta_ms?",
        ),
    ],
)
def test_mistake_in_observe_suggests_the_nearest_word(text: str, message: str) -> None:
    """The message for an unknown preset, part, name or format suggests a similar one."""
    with pytest.raises(ConfigError, match=rf"(?s)a.yaml:4:\d+: rate_limits\[0\].*{message}"):
        observed(text)


def test_limit_with_observe_needs_neither_rates_nor_concurrency() -> None:
    """The responses state the limit."""
    (rule,) = plan(HEAD + "rate_limits: [{name: a, observe: github}]\nresources: [a]\n").rate_limits
    assert (rule.rates, rule.max_concurrency, rule.observe) == ((), None, Observe("github"))


def test_describe_returns_values_as_written() -> None:
    """Filled-in values appear as placeholders, the password in the store's URL is masked, durations have units."""
    text = HEAD.replace("https://a.test", "'https://${env:H}'") + "redis: '${env:R}'\nresources: [a]\n"
    shown = describe(plan(text, {"H": "h.test", "R": "redis://u:pw@r:1/0"}))
    assert shown["client"]["base_url"] == "https://${env:H}"
    assert shown["redis"]["url"] == "redis://u:***@r:1/0"
    assert shown["client"]["timeout"] == "30s"
    assert json.loads(json.dumps(shown)) == shown


def test_unreadable_file_is_one_problem_that_names_the_file(tmp_path: Path) -> None:
    """Covers a missing file, a folder, and a file that is not UTF-8."""
    with pytest.raises(ConfigError, match=r"nothing.yaml: cannot be read: No such file"):
        load(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"version: 1\nname: \xe9")
    with pytest.raises(ConfigError, match=r"latin.yaml:2:7: this is not UTF-8 text"):
        load(tmp_path / "latin.yaml")


def test_schema_is_plain_json_with_all_shorthands() -> None:
    """The schema can be serialized, and has an alternative for each shorthand of the language."""
    made = json.loads(json.dumps(schema()))
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["required"] == ["version", "name", "resources"]
    resource = made["properties"]["resources"]["items"]["anyOf"]
    assert [alternative.get("type") for alternative in resource] == [None, "object"]
    null, endpoint = resource[1]["properties"]["endpoint"]["anyOf"]
    assert null == {"type": "null"}
    assert "string" in endpoint["anyOf"][0]["type"]
    assert "schedule" in resource[1]["properties"]
    assert "recrawl" not in resource[1]["properties"]
