"""Find the limit instances that a request shares; together they name the group of its task. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from scrapeq.expression import as_text
from scrapeq.limits.weights import estimate, varies
from scrapeq.plan import LimitRule
from scrapeq.responses.match import host_of, request_matches
from scrapeq.task import Group

# Limits without rates, which only refusals of their scope close.
_SCOPES = {
    "host": LimitRule("=host", partition_by=("host",)),
    "token": LimitRule("=token", partition_by=("token",)),
    "all": LimitRule("=all", partition_by=()),
}
IMPLICIT = LimitRule("default")  # applies if no rule matches: one limit for each host and credential

_INSTANCE_BYTES = 200
_PART_BYTES = 64
_NAME_BYTES = 255
_READABLE_CHARS = 120
_TOKEN_HEX = 8
_DIGEST_HEX = 24
_SAFE = ":[]@/"  # common in hosts and repository names, and not a separator of instance names


def _digest(text: str, digits: int = _DIGEST_HEX) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=digits // 2).hexdigest()


class Pooled(str):
    """A placeholder `*name` for any credential of a pool; the grant of a request decides which one."""


POOL = "tokens"  # the name of a configuration's only pool
ANY_TOKEN = Pooled(f"*{POOL}")


def token_digest(token: str) -> str:
    """Return a credential's digest, which may be shown and stored: eight hex digits; empty for none, a pool's name."""
    if isinstance(token, Pooled):
        return str(token)
    return _digest(token, _TOKEN_HEX) if token else ""


def _value(key: str, host: str, token: str, resource: str, roots: Mapping[str, Any]) -> str:
    if key == "token":
        return token_digest(token)
    if key == "host":
        text = host
    elif key == "resource":
        text = resource
    else:
        root, *path = key.split(".")
        found: Any = roots.get(root)
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        text = as_text(found) or ""
    part = quote(text, safe=_SAFE, errors="replace").replace("~", "%7E")
    return part if len(part) <= _PART_BYTES else f"~{_digest(text)}"


def _instance(rule: LimitRule, host: str, token: str, resource: str, roots: Mapping[str, Any]) -> str:
    if not rule.partition_by:
        name = rule.name
    else:
        values = [_value(key, host, token, resource, roots) for key in rule.partition_by]
        name = f"{rule.name}|{','.join(values)}"
    if len(name.encode()) <= _INSTANCE_BYTES:
        return name
    pool = f",{token}" if isinstance(token, Pooled) and "token" in rule.partition_by else ""
    return f"{rule.name[:_PART_BYTES]}|~{_digest(name)}{pool}"


def _applies_uniformly(private: LimitRule, other: LimitRule) -> bool:
    """
    Return whether `other` applies to all requests of one instance of `private`, or to none of them.

    Only then does that instance belong to a single group.
    """
    for key in ("resource", "method", "host", "path"):
        theirs = set(getattr(other.match, key))
        ours = set(getattr(private.match, key))
        if key in ("resource", "method") and ours and theirs and not ours & theirs:
            return True  # no request matches both
    for key in ("resource", "method", "host", "path"):
        theirs = set(getattr(other.match, key))
        ours = set(getattr(private.match, key))
        if theirs and not (ours and ours <= theirs) and key not in private.partition_by:
            return False
    return True


def instances_of(
    rules: Sequence[LimitRule],
    *,
    resource: str = "",
    method: str = "GET",
    url: str,
    token: str = "",
    seed: Mapping[str, Any] | None = None,
    parent: Mapping[str, Any] | None = None,
) -> list[tuple[LimitRule, str]]:
    """Return every rule that matches a request, in file order, with the name of its instance (see `group_of`)."""
    matched = [
        rule for rule in rules if request_matches(rule.match, resource=resource, method=method, url=url)
    ]
    host = host_of(url)
    roots = {"seed": seed, "parent": parent}
    return [(rule, _instance(rule, host, token, resource, roots)) for rule in matched or [IMPLICIT]]


def group_of(
    rules: Sequence[LimitRule],
    *,
    resource: str = "",
    method: str = "GET",
    url: str,
    token: str = "",
    seed: Mapping[str, Any] | None = None,
    parent: Mapping[str, Any] | None = None,
    scopes: Collection[str] = (),
) -> Group:
    """
    Return the group of a request: the instances of every rule that matches it.

    An instance is called `name`, or `name|value,…` with the values of `partition_by`; credentials appear as digests.
    The private instance is one that no other group can use: its keys include the keys of all the others, and the
    others match either all of its requests or none. Without such an instance, all are shared.

    Args:
        rules: The rate limits of the plan; if none matches, the implicit one (by host and credential) applies.
        resource, method, url: The request.
        token: The credential that the request will carry, in clear text; empty: none.
        seed, parent: Records that `partition_by` and `weights` may name.
        scopes: The scopes that a refusal may close (host, token, all). Each adds a limit that is shared by all groups
            of that host or credential, and grants unless it is closed.
    """
    found = instances_of(
        rules, resource=resource, method=method, url=url, token=token, seed=seed, parent=parent
    )
    names = [name for _, name in found]
    records = {"seed": seed, "parent": parent}
    weights = [
        (
            name,
            estimate(rule, resource=resource, method=method, url=url, names=records) if rule.weights else 1,
        )
        for rule, name in found
    ]
    private = -1
    for index, (rule, _) in enumerate(found):
        if rule is IMPLICIT:  # it only applies alone
            private = index
            continue
        if varies(rule):
            continue
        keys = set(rule.partition_by)
        if all(keys >= set(other.partition_by) for other, _ in found) and all(
            _applies_uniformly(rule, other) for other in rules if other is not rule
        ):
            private = index
    wide = [rule for scope, rule in _SCOPES.items() if scope in scopes and (token or scope != "token")]
    if private >= 0 and found[private][0] is not IMPLICIT:
        keys = set(found[private][0].partition_by)
        if any(not set(rule.partition_by) <= keys for rule in wide):
            private = -1  # its requests may go to several hosts, or carry several credentials
    scoped = [_instance(rule, host_of(url), token, resource, {}) for rule in wide]
    shared = [*(name for index, name in enumerate(names) if index != private), *scoped]
    heavy = tuple((name, weight) for name, weight in weights if weight != 1)
    weighed = [f"{name}^{weight:g}" if weight != 1 else name for name, weight in weights]
    return Group(_name([*weighed, *scoped]), tuple(shared), names[private] if private >= 0 else "", heavy)


def _name(instances: Sequence[str]) -> str:
    whole = "&".join(instances)
    if len(whole.encode()) <= _NAME_BYTES:
        return whole
    return f"{whole[:_READABLE_CHARS].encode('ascii', 'replace').decode()}~{_digest(whole)}"
