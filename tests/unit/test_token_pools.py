"""Token pools: their configuration, the names that the store sees, and the limits that a refusal closes."""

from __future__ import annotations

import pytest

from scrapeq.config import load
from scrapeq.errors import ConfigError, UsageError
from scrapeq.fetch.auth import redact
from scrapeq.limit import of_credential
from scrapeq.limits.attribution import closed_by
from scrapeq.limits.partition import ANY_TOKEN, group_of, token_digest
from scrapeq.plan import Auth, LimitRule
from scrapeq.queue.block import CREDENTIAL_MAX, GROUP_MAX, lane_and_private, lane_name
from scrapeq.queue.settings import define_pools
from scrapeq.task import Group

URL = "https://api.example/issues"
CORE = LimitRule("core")
HOST = LimitRule("host", partition_by=("host",))
FILE = "version: 1\nname: a\nclient: {{base_url: https://a.test, auth: {auth}}}\nresources: [a]\n"
ENV = {"ONE": "a", "TWO": "a,b", "LINES": "a\n b \r\n\nc\n", "MANY": ",".join(map(str, range(65)))}


def auth_of(written: str) -> Auth:
    """Return the auth of a configuration with this text under `client.auth`."""
    return load("a.yaml", text=FILE.format(auth=written), env=ENV).client.auth


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("'${env:TWO}'", ("a", "b")),
        ("'${env:LINES}'", ("a", "b", "c")),
        ("['${env:TWO}', 'x-${env:ONE}']", ("a", "b", "x-a")),
        ("'${env:ONE}, '", ()),  # a single token is not a pool
    ],
)
def test_tokens_are_separated_by_commas_lines_or_list_items(written: str, tokens: tuple[str, ...]) -> None:
    """`tokens` has all of them; the first one is the default."""
    assert auth_of(f"{{type: bearer, tokens: {written}}}") == Auth("bearer", "a", tokens=tokens)
    keys = auth_of(f"{{type: api_key, name: k, api_keys: {written}}}")
    assert (keys.token, keys.tokens) == ("a", tokens)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("tokens: ['${env:TWO}', '${env:ONE}']", "contains the same token twice"),
        ("tokens: '${env:MANY}'", "contains 65 tokens; at most 64 are allowed"),
        ("tokens: [a, b]", "a secret in clear text"),
        ("token: '${env:LINES}'", "the secret contains a line break"),
        ("token: '${env:ONE}', tokens: '${env:TWO}'", "token and tokens are mutually exclusive"),
    ],
)
def test_an_invalid_pool_in_a_file_is_one_error(written: str, message: str) -> None:
    """Each mistake is one problem, at `client.auth`."""
    with pytest.raises(ConfigError) as caught:
        auth_of(f"{{type: bearer, {written}}}")
    (problem,) = caught.value.problems
    assert message in problem.message
    assert problem.field.startswith("client.auth")


def test_the_store_never_sees_a_token() -> None:
    """A group names the pool, a lease the digest of its credential; a single token has its own instance."""
    group = group_of((CORE, HOST), url=URL, token=ANY_TOKEN)
    assert group == Group(
        "core|api.example,*tokens&host|api.example", ("host|api.example",), "core|api.example,*tokens"
    )
    alone = group_of((CORE, HOST), url=URL, token="alpha")
    assert of_credential(group.private, token_digest("alpha")) == alone.private
    long = LimitRule("core", partition_by=("seed.a", "seed.b", "seed.c", "seed.d", "token"))
    seed = dict.fromkeys("abcd", "x" * 60)
    assert group_of((long,), url=URL, token=ANY_TOKEN, seed=seed).private.endswith(",*tokens")


def test_the_lane_of_a_pool_leaves_room_for_a_credential() -> None:
    """A lease stores lane and credential in one string of at most 255 bytes; the mark of a pool comes first."""
    group = Group("g", tuple(f"limit{i}|{'x' * 20}" for i in range(9)), "core|*tokens")
    limits, private = lane_and_private(group)
    assert private == ""
    assert lane_name(limits).startswith("*")
    assert len(lane_name(limits)) + 1 + CREDENTIAL_MAX <= GROUP_MAX
    assert lane_name(group.limits)[0] != "*"


@pytest.mark.parametrize(
    ("scope", "closed"),
    [
        ("task", []),
        ("limit", ["core|h,m1"]),
        ("token", ["host|h", "core|h,m1"]),
        ("all", ["host|h", "core|h,m1", "core|h,m2"]),
        ("core", ["core|h,m1"]),
    ],
)
def test_a_refusal_closes_the_limits_of_its_scope(scope: str, closed: list[str]) -> None:
    """Only a scope wider than the token closes the instances of other credentials."""
    group = Group("g", ("host|h",), "core|h,*tokens")
    assert closed_by(group, scope, "m1", ["m1", "m2"]) == closed


def test_errors_hide_every_token_of_a_pool() -> None:
    """Covers more than the first token."""
    auth = Auth("bearer", "alpha-1", tokens=("alpha-1", "beta-2"))
    assert redact("sent alpha-1, then beta-2", auth) == "sent ***, then ***"


@pytest.mark.parametrize(
    ("name", "credentials", "message"),
    [
        ("p", [], "expected 1 to 64 credentials, got 0"),
        ("p", [str(i) for i in range(65)], "expected 1 to 64 credentials, got 65"),
        ("p", ["a", "a"], "two of its credentials have the same name"),
        ("p", ["a|b"], "credential 'a|b': expected a name of up to 32 letters"),
        ("p*", ["a"], "expected a name of up to 64 letters"),
    ],
)
def test_an_invalid_pool_is_refused_before_it_is_sent(
    name: str, credentials: list[str], message: str
) -> None:
    """Covers the size, the name, and the names of the credentials."""
    with pytest.raises(UsageError, match=message.replace("|", r"\|")):
        define_pools({name: credentials})
