"""Which limit instances a request shares."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scrapeq.limits.partition import group_of, token_digest
from scrapeq.plan import LimitRule, Match
from scrapeq.task import Group

URL = "https://api.example/issues"
SECRET = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"

CORE = LimitRule("core", Match(resource=("issues", "comments")), ("token",))
SEARCH = LimitRule("search", Match(resource=("search",)), ("token",))
SECONDARY = LimitRule("secondary", Match(), ("token",))


def test_without_rules_each_host_and_credential_has_a_private_limit() -> None:
    """The implicit limit applies, and its name contains the host."""
    group = group_of((), url=URL)
    assert group == Group("default|api.example,", (), "default|api.example,")
    assert group_of((), url=URL, token=SECRET) != group
    assert group_of((), url="https://api.example:8443/") != group


def test_every_matching_rule_is_shared_or_private() -> None:
    """A limit that two resources share is not private to either group."""
    rules = (CORE, SEARCH, SECONDARY)
    digest = token_digest(SECRET)
    issues = group_of(rules, resource="issues", url=URL, token=SECRET)
    assert (issues.limits, issues.private) == ((f"secondary|{digest}",), f"core|{digest}")
    search = group_of(rules, resource="search", url=URL, token=SECRET)
    assert (search.limits, search.private) == ((f"secondary|{digest}",), f"search|{digest}")
    other = group_of(rules, resource="labels", url=URL, token=SECRET)
    assert (other.limits, other.private) == ((f"secondary|{digest}",), "")
    assert len({issues.name, search.name, other.name}) == 3


def test_the_limit_with_all_keys_is_private_if_the_others_apply_uniformly() -> None:
    """With one limit per host and one for all hosts, the host's limit is private to its group."""
    rules = (LimitRule("all", Match(), ()), LimitRule("host", Match(), ("host",)))
    group = group_of(rules, url=URL)
    assert (group.limits, group.private) == (("all",), "host|api.example")


def test_a_rule_for_some_paths_makes_the_limit_of_the_host_shared() -> None:
    """Two groups use the host's limit then, so it is private to neither."""
    rules = (LimitRule("host", Match(), ("host",)), LimitRule("heavy", Match(path=("/export/**",)), ()))
    plain, heavy = group_of(rules, url=URL), group_of(rules, url="https://api.example/export/1")
    assert plain.private == heavy.private == ""
    assert plain.limits == ("host|api.example",)
    assert heavy.limits == ("host|api.example", "heavy")


def test_credentials_never_appear_in_clear_text() -> None:
    """A digest of eight hex digits replaces the token wherever it is a key."""
    group = group_of((SECONDARY,), url=URL, token=SECRET)
    assert SECRET not in repr(group)
    assert token_digest(SECRET) in group.private
    assert len(token_digest(SECRET)) == 8


def test_partitions_by_seed_and_parent() -> None:
    """A path selects a value of the record; a missing value is empty."""
    rule = LimitRule("per", Match(), ("seed.shop.id", "parent.kind"))
    group = group_of((rule,), url=URL, seed={"shop": {"id": 7}}, parent={"kind": "a b,c|d"})
    assert group.private == "per|7,a%20b%2Cc%7Cd"
    assert group_of((rule,), url=URL).private == "per|,"


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_names_stay_short_and_distinct(one: str, two: str, three: str) -> None:
    """Instances have at most 200 bytes and names 255, and different values give different instances."""
    rules = tuple(LimitRule(name, Match(), ("seed.x", "seed.y")) for name in ("a" * 120, "b", "c" * 250))
    groups = [group_of(rules, url=URL, seed={"x": x, "y": y}) for x, y in ((one, two), (one, three))]
    for group in groups:
        assert 0 < len(group.name.encode()) <= 255
        assert all(len(name.encode()) <= 200 for name in (*group.limits, group.private))
    assert (groups[0] == groups[1]) is (two == three)
    assert (groups[0].name == groups[1].name) is (two == three)
