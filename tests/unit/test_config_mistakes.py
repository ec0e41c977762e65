"""The messages, hints and positions for mistakes in configuration files."""

from __future__ import annotations

import textwrap

import pytest

from scrapeq.config import load
from scrapeq.errors import ConfigError, Problem

ENV = {"API_TOKEN": "t", "EMPTY": ""}
HEAD = "version: 1\nname: demo\nclient: {base_url: https://a.test}\n"  # three lines


def problems(text: str, env: dict[str, str] | None = None) -> list[Problem]:
    """Return the problems of a text."""
    with pytest.raises(ConfigError) as caught:
        load("a.yaml", text=text, env=ENV if env is None else env)
    return caught.value.problems


def resource(body: str) -> str:
    """Return a file with one resource, whose keys start on line 6, column 5."""
    return (
        HEAD
        + "resources:\n  - name: issues\n"
        + textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 4)
        + "\n"
    )


def limit(body: str) -> str:
    """Return a file with one limit, whose keys start on line 6, column 5."""
    head = HEAD + "rate_limits:\n  - name: core\n"
    return head + textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 4) + "\nresources: [issues]\n"


def client(body: str) -> str:
    """Return a file whose client has these keys, from line 5, column 3."""
    head = "version: 1\nname: demo\nclient:\n  base_url: https://a.test\n"
    return head + textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 2) + "\nresources: [issues]\n"


def tree(comments: str) -> str:
    """Return a file with the resource `issues` and, from line 6, a second resource."""
    return (
        HEAD
        + "resources:\n  - issues\n"
        + textwrap.indent(textwrap.dedent(comments).strip("\n"), " " * 2)
        + "\n"
    )


ROWS = {
    "zone of an address": (
        HEAD.replace("a.test", '"http://[fe80::1%eth0]:80"').replace("https://", "")
        + "resources: [issues]\n",
        (
            3,
            20,
            "client.base_url",
            "not a valid URL: fe80::1%eth0: an IPv6 address with a zone (%...) is not allowed in a URL",
            "",
        ),
    ),
    "invalid port of a host": (
        client("allow_hosts: ['a.test', '[::1]:x']"),
        (
            5,
            27,
            "client.allow_hosts[1]",
            "not a valid host: Port could not be cast to integer value as 'x'",
            "for example 10.0.0.7:8080 or [fd00::7]:8080",
        ),
    ),
    "typo": (
        resource("endpoint:\n  path: a\n  parms: {a: 1}"),
        (8, 7, "resources[0].endpoint.parms", "unknown key 'parms'", "did you mean params?"),
    ),
    "wrong level": (
        resource("endpoint: a\nparams: {a: 1}"),
        (7, 5, "resources[0].params", "unknown key 'params'", "params belongs under endpoint:"),
    ),
    "wrong level, outwards": (
        HEAD + "timeout: 30s\nresources: [a]\n",
        (4, 1, "timeout", "unknown key 'timeout'", "timeout belongs under client:"),
    ),
    "foreign word": (
        HEAD + "resources: [a]\nstreams: [b]\n",
        (5, 1, "streams", "unknown key", "here it is called resources"),
    ),
    "indent": (
        "version: 1\nname: demo\nclient:\n  base_url: https://a.test\n   timeout: 30s\n",
        (
            5,
            4,
            "timeout",
            "indented deeper (3) than the line above (2), which has a value already",
            'use 2 spaces, or move it under a key that ends in ":"',
        ),
    ),
    "tab": (
        "version: 1\nclient:\n\tbase_url: https://a.test\n",
        (3, 1, "", "a tab indents this line; YAML allows spaces only", None),
    ),
    "duplicate": (
        "version: 1\nname: a\nname: b\n",
        (3, 1, None, "'name' appears twice; the first is on line 2", ""),
    ),
    "paginator": (
        resource("endpoint:\n  path: a\n  paginator: {type: next_link}"),
        (
            8,
            25,
            "resources[0].endpoint.paginator.type",
            "unknown type 'next_link'",
            "did you mean json_link? one of json_link, header_link, header_cursor, cursor, offset, page_number, "
            "single_page, auto",
        ),
    ),
    "env": (
        client("auth: {type: bearer, token: '${env:API_TOKN}'}"),
        (
            5,
            31,
            "client.auth.token",
            "the environment variable API_TOKN is not set",
            "API_TOKEN is set: is that the one?",
        ),
    ),
    "clear secret": (
        client("auth: {type: bearer, token: abc}"),
        (5, 31, "client.auth.token", "a secret in clear text", "token: ${env:DEMO_TOKEN}"),
    ),
    "duration in words": (
        client("timeout: 1 minute"),
        (5, 12, "client.timeout", "'1 minute' is not a duration: write 1m", ""),
    ),
    "duration without unit": (
        client("timeout: 30"),
        (5, 12, "client.timeout", "30 has no unit: 30s, 30m or 30h?", ""),
    ),
    "1:30": (
        client("timeout: 1:30"),
        (5, 12, "client.timeout", "'1:30' is not a duration: 1m30s or 1h30m?", ""),
    ),
    "1M": (
        client("timeout: 1M"),
        (5, 12, "client.timeout", "months and years have no fixed length; write days", ""),
    ),
    "negative": (
        limit("rates: [{limit: -5, interval: 1m}]"),
        (6, 21, "rate_limits[0].rates[0].limit", "-5 is too small; it must be more than 0", ""),
    ),
    "dead match": (
        limit("rates: [{limit: 5, interval: 1m}]\nmatch: {resource: issue}"),
        (
            7,
            23,
            "rate_limits[0].match.resource",
            "can never match: no resource is called 'issue'",
            "did you mean issues?",
        ),
    ),
    "regex as glob": (
        limit("rates: [{limit: 5, interval: 1m}]\nmatch: {path: ^/issues}"),
        (7, 19, "rate_limits[0].match.path", "a pattern is a glob here", "write re:^/issues"),
    ),
    "cycle": (
        HEAD
        + "resources:\n"
        + "  - {name: issues, parent: comments, endpoint: a}\n  - {name: comments, parent: issues, endpoint: b}\n",
        (
            5,
            28,
            "resources[0].parent",
            "nothing ever starts issues: issues <- comments <- issues",
            "remove the parent of one of them, or give it seeds",
        ),
    ),
    "undeclared": (
        resource("endpoint: a/${parent.id}"),
        (
            6,
            15,
            "resources[0].endpoint.path",
            "parent is used, but this resource has no parent",
            "add parent:",
        ),
    ),
    "dlt braces": (
        resource('endpoint: "a/{seed.repo}"'),
        (
            6,
            18,
            "resources[0].endpoint.path",
            "{…} is not replaced",
            "placeholders are written ${seed.repo}",
        ),
    ),
    "bare {": (
        resource("endpoint:\n  path: {seed.repo}/issues"),
        (7, 13, "path", "{ starts a YAML mapping here", 'path: "${seed.repo}/issues"'),
    ),
    "bare {, alone": (
        resource("endpoint:\n  path: {seed.repo}"),
        (7, 13, "resources[0].endpoint.path", "{ starts a YAML mapping here", 'path: "${seed.repo}"'),
    ),
    "comma in {}": (
        resource("endpoint: {path: a, paginator: {type: header_link, stop_when: max(1, 2) > 1}}"),
        (
            6,
            67,
            "resources[0].endpoint.paginator.stop_when",
            "inside { } or [ ], a comma or bracket ends the value",
            "quote the expression",
        ),
    ),
    "bracket in {}": (
        resource("endpoint: {path: a, params: {x: a[0]}}"),
        (6, 38, "", "inside { } or [ ], a comma or bracket ends the value", "quote the expression"),
    ),
    "*": (
        resource("endpoint:\n  path: a\n  params:\n    cursor: *"),
        (9, 17, "cursor", "* starts a YAML alias here", "cursor: '*'"),
    ),
    "* before a name": (
        resource("endpoint: *all"),
        (6, 15, "resources[0].endpoint", "* starts a YAML alias here", "endpoint: '*all'"),
    ),
    "title: #main": (
        resource("endpoint: a\nfields:\n  title: #main"),
        (
            8,
            13,
            "resources[0].fields.title",
            "title is empty: # after a space begins a comment",
            "title: '#main'",
        ),
    ),
    "path key": (
        resource("endpoint:\n  path: a\n  data_selector: message.next-items"),
        (
            8,
            34,
            "resources[0].endpoint.data_selector",
            "Unknown token '-'",
            'message."next-items"',
        ),
    ),
    "operator": (
        resource("endpoint: a\nrecord_filter: record.a & record.b"),
        (7, 29, "resources[0].record_filter", "unexpected '&': use 'and'", ""),
    ),
    "name": (
        resource("endpoint: a\npriority: recrod.updated_at"),
        (7, 15, "resources[0].priority", "unknown name 'recrod' (did you mean 'record'?)", None),
    ),
    'the escape "\\d"': (
        resource("endpoint: a\nrecord_filter: \"regex(record.a, '\\d')\""),
        (7, 38, None, "\\d is not an escape inside double quotes", "use single quotes"),
    ),
    "---": (
        HEAD + "resources: [a]\n---\nversion: 1\n",
        (5, 1, "", "a second document begins here; one file holds one scrape", ""),
    ),
    "version 2": (
        "version: 2\nname: demo\nnew_key: 1\n",
        (1, 10, "version", "this scrapeq reads version 1", "upgrade scrapeq"),
    ),
}


@pytest.mark.parametrize("mistake", ROWS)
def test_mistake_is_one_problem_with_position_message_and_hint(mistake: str) -> None:
    """Checks line, column, field, message and hint."""
    text, (line, col, field, message, hint) = ROWS[mistake]
    found = problems(text)
    assert [(p.line, p.col, p.message) for p in found] == [(line, col, message)]
    assert field is None or found[0].field == field
    assert hint is None or found[0].hint == hint


MORE = {
    "no token": (client("auth: {type: bearer, tokens: '${env:NONE:-}, '}"), "contains no token"),
    "an empty secret": (client("auth: {type: bearer, token: '${env:EMPTY}'}"), "EMPTY is empty"),
    "a secret as default": (client("auth: {type: bearer, token: '${env:X:-abc}'}"), "a secret in clear text"),
    "a secret as header": (client("headers: {Authorization: Bearer abc}"), "a secret in clear text"),
    "credentials in the URL": (HEAD.replace("//a", "//u:p@a") + "resources: [a]", "credentials in a URL"),
    "no scheme": (HEAD.replace("https://", "") + "resources: [a]", "must start with http:// or https://"),
    "no version": ("name: a\nclient: {base_url: https://a.test}\nresources: [a]", "is missing"),
    "an empty text": ("", "is missing"),
    "a list": ("- a", "must be a map, not a list"),
    "a quoted number": (HEAD + "run: {workers: '3'}\nresources: [a]", "'3' is not a whole number"),
    "yes": (resource("endpoint: a\nselected: yes"), "'yes' is neither true nor false"),
    "a size": (client("max_body_size: 64"), "64 has no unit: 64B, 64KB or 64MB?"),
    "a size in another spelling": (client("max_body_size: 64 mb"), "'64 mb' is not a size: write 64MB"),
    "two ways": (resource("endpoint: {path: a, url: https://a.test}"), "path and url are mutually exclusive"),
    "a path that is a URL": (resource("endpoint: https://b.test/a"), "a path is joined to base_url"),
    "a path without base": ("version: 1\nname: a\nresources: [a]", "a path needs client.base_url"),
    "a path in a bucket": (
        resource("endpoint: c") + 'outputs: {type: jsonl, path: "s3://b/x.jsonl"}\n',
        "s3:// is not supported",
    ),
    "not a rate": (
        resource("endpoint: c") + "rate_limits: [{name: a, rates: [60 a minute]}]\n",
        "'60 a minute' is not a rate",
    ),
    "an unknown parent": (tree("- {name: b, parent: issue, endpoint: c}"), "no resource is called 'issue'"),
    "no ancestor": (
        tree("- {name: b, endpoint: 'c/${resources.issues.id}'}"),
        "issues is not a parent of this resource",
    ),
    "twice": (
        tree("- {name: issues, endpoint: c}"),
        "two resources are called 'issues'; the first is on line 5",
    ),
    "no seeds": (resource("endpoint: a/${seed.repo}"), "seed is used, but there are no seeds"),
    "no such seed": (
        resource("endpoint: a/${seed.repoo}\nseeds: [{repo: a}]"),
        "no seed has the key 'repoo'",
    ),
    "another type's key": (
        resource("endpoint: {path: a, paginator: {type: header_link, page_param: p}}"),
        "unknown key 'page_param'",
    ),
    "nothing limited": (limit("partition_by: [host]"), "limits nothing"),
    "an unknown scope": (
        HEAD + "response_actions: [{match: {status: 403}, action: retry, scope: hots}]\nresources: [a]",
        "unknown scope 'hots'",
    ),
    "a wait in words": (
        HEAD + "response_actions: [{match: {status: 403}, action: retry, wait: 1 minute}]\nresources: [a]",
        "'1 minute' is not a duration: write 1m",
    ),
    "an expression in braces": (
        resource("endpoint: a\npriority: ${record.id}"),
        "an expression is written without ${ } here",
    ),
    "a python tag": (
        "version: !!python/object/apply:os.system ['true']",
        "is not allowed; values are plain data",
    ),
    "a recursive anchor": ("version: &a [*a]", "the anchor 'a' contains itself"),
    "an unclosed list": ("version: 1\nresources: [a\nname: b\n", "this '[' is never closed"),
    "an unclosed quote": ("version: 1\nname: 'a\n", "this quote is never closed"),
    "deeper than a dash": (
        HEAD + "resources:\n- name: a\n   endpoint: b\n",
        "indented deeper (3) than the line above (2)",
    ),
    "a colon": ("version: 1\nname: a: b\n", "a colon followed by a space starts a mapping here"),
    "text after a quote": ("version: 1\nname: 'a' b\n", "text continues after the closing quote"),
    "an unreadable parent": (
        tree("- {name: b, parent: {resource: c: d}}\n"),
        "a comma or bracket ends the value",
    ),
    "no parent that can be read": (tree("- {name: b, parent: [1: 2], endpoint: c}"), "unknown key '1'"),
    "a name without a value here": (
        resource("endpoint: a\nrecord_filter: record.url in link.urls"),
        "'link' is not implemented in this version",
    ),
    "a stray @": ("version: @1\n", "cannot start a value in YAML"),
    "the same file twice": (
        HEAD + "resources: [a]\noutputs: [{type: jsonl, path: o}, {type: jsonl, path: o}]",
        "the same file as outputs[0]",
    ),
    "an expression in an output": (
        HEAD + "resources: [a]\noutputs: [{type: jsonl, path: 'o/${record.x}'}]",
        "unknown name 'record'",
    ),
}


@pytest.mark.parametrize("mistake", MORE)
def test_other_mistake_has_a_clear_message(mistake: str) -> None:
    """One of the problems has the expected message."""
    text, message = MORE[mistake]
    found = problems(text)
    assert any(message in problem.message for problem in found), found


LATER = {
    "resources[0].recrawl": "recrawl: {min: 1h}",
    "resources[0].links": "links: [{css: a}]",
    "resources[0].match": "match: {path: /a}",
}


@pytest.mark.parametrize("field", LATER)
def test_unimplemented_key_is_rejected_by_name(field: str) -> None:
    """Such a key is neither called unknown nor silently ignored."""
    found = problems(resource("endpoint: a\n" + LATER[field]))
    assert [(p.field, p.message) for p in found] == [(field, "not implemented in this version")]


def test_all_problems_are_reported_in_the_order_of_the_file() -> None:
    """Loading reports every mistake, not only the first."""
    text = client("timeout: 30\nbase_urll: x") + "run: {workers: 0}\n"
    found = problems(text)
    assert [p.field for p in found] == ["client.timeout", "client.base_urll", "run.workers"]
    assert str(found[0]) == "a.yaml:5:12: client.timeout: 30 has no unit: 30s, 30m or 30h?"


def test_wrong_default_is_reported_once_at_its_position() -> None:
    """The default is read in every resource, but it is one mistake."""
    text = HEAD + "resource_defaults: {endpoint: {parms: 1}, recrawl: {min: 1h}}\nresources: [a, b]\n"
    found = problems(text)
    assert [(p.line, p.col) for p in found] == [(4, 32), (4, 43)]


def test_no_problem_shows_a_secret() -> None:
    """The message for a credential in clear text does not contain it."""
    text = client("auth: {type: http_basic, username: hunter1, password: hunter2}")
    assert not any("hunter" in str(problem) for problem in problems(text))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (client("auth: {type: bearer, tokn: '${env:API_TOKEN}'}"), "client.auth.tokn"),
        (resource("endpoint: {path: a, paginator: {type: cursor, cursr_path: b}}"), None),
        (HEAD + "resources: [a]\noutputs: [{type: jsonl, paht: o}]", "outputs[0].paht"),
        (HEAD.replace("name:", "nmae:") + "resources: [a]", "nmae"),
    ],
)
def test_misspelled_required_key_is_one_mistake(text: str, field: str | None) -> None:
    """The key is not reported as missing as well."""
    (problem,) = problems(text)
    assert problem.message.startswith("unknown key") and problem.hint.startswith("did you mean")
    assert field is None or problem.field == field
