"""What changed in a configuration file since its unfinished run began, so that the run can follow it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from scrapeq.plan import Plan, Resource
from scrapeq.resource.seeds import starts_by_itself

SEEDS_MAX = 10_000  # seeds whose digests are stored one by one
NAMES_SHOWN = 5
DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class FileChanges:
    """
    The difference between two versions of a file.

    Args:
        added, removed, changed: Names of resources; `changed`: they make other requests or read them differently.
        seeds: The digests of the new seeds by resource; None = its seeds changed, too many to compare one by one.
        seeds_removed: How many seeds are gone.
        keys: Other keys that matter to requests that are queued or to records that are written.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    seeds: Mapping[str, frozenset[str] | None] | None = None
    seeds_removed: int = 0
    keys: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.added or self.removed or self.changed or self.seeds or self.seeds_removed or self.keys
        )

    def wants(self, resource: Resource, seed: Mapping[str, Any]) -> bool:
        """Return whether the first page of a seed is still to be pushed."""
        if resource.name in self.added:
            return True
        new = (self.seeds or {}).get(resource.name, frozenset())
        return new is None or _digest(seed) in new

    def late_children(self, plan: Plan) -> list[str]:
        """Return the added resources whose parents the run has fetched in part: they lack what follows from those."""
        return [
            resource.name
            for resource in plan.resources
            if resource.name in self.added
            and not starts_by_itself(resource)
            and any(parent.resource not in self.added for parent in resource.parents)
        ]

    def text(self) -> str:
        """Return what changed, for the user."""
        parts = []
        if self.removed:
            parts.append(f"{_named(self.removed)} removed (queued tasks are dropped without a request)")
        if self.added:
            parts.append(f"{_named(self.added)} added")
        if self.changed:
            parts.append(f"{_named(self.changed)} changed (queued requests stay as they are)")
        for name, new in (self.seeds or {}).items():
            parts.append(f"new seeds of {name}" + ("" if new is None else f": {len(new)}"))
        if self.seeds_removed:
            parts.append(f"seeds removed: {self.seeds_removed} (queued requests stay)")
        parts += self.keys
        return ", ".join(parts)


def fingerprint_of(plan: Plan) -> str:
    """Return what `changes_between` needs to know of a plan, as JSON of a few bytes for each resource and seed."""
    seeds = {"": _seed_digests(plan.seeds, plan.seed_file)}
    resources = {}
    for resource in plan.resources:
        resources[resource.name] = _digest(
            _plain(replace(resource, seeds=(), seed_file="", seed_priority=None))
        )
        if resource.seeds or resource.seed_file:
            seeds[resource.name] = _seed_digests(resource.seeds, resource.seed_file)
    keys = {"client.base_url": _digest(plan.client.base_url), "outputs": _digest(_plain(plan.outputs))}
    return orjson.dumps({"resources": resources, "seeds": seeds, "keys": keys}).decode()


def changes_between(old_text: str, plan: Plan) -> FileChanges:
    """
    Compare a stored fingerprint with a plan.

    Args:
        old_text: The result of `fingerprint_of` for the earlier version; empty = unknown, so nothing changed.
        plan: The plan of the file as it is now.
    """
    if not old_text:
        return FileChanges()
    old, new = orjson.loads(old_text), orjson.loads(fingerprint_of(plan))
    before, after = old["resources"], new["resources"]
    seeds: dict[str, frozenset[str] | None] = {}
    removed = 0
    for resource in plan.resources:
        if resource.name not in before or not starts_by_itself(resource):
            continue
        known, now = (each["seeds"].get(resource.name, each["seeds"][""]) for each in (old, new))
        if known == now:
            continue
        if isinstance(known, str) or isinstance(now, str):
            seeds[resource.name] = None
            continue
        if added := frozenset(now) - frozenset(known):
            seeds[resource.name] = added
        removed += len(frozenset(known) - frozenset(now))
    return FileChanges(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if before.get(name, after[name]) != after[name]),
        seeds=seeds,
        seeds_removed=removed,
        keys=tuple(key for key, digest in new["keys"].items() if old["keys"].get(key) != digest),
    )


def _seed_digests(seeds: Sequence[Mapping[str, Any]], file: str) -> list[str] | str:
    """Return the digest of each seed; one for all if there are many, or if a file lists them."""
    if not file and not seeds:
        return [_digest({})]  # the one seed without values
    if not file and len(seeds) <= SEEDS_MAX:
        return [_digest(seed) for seed in seeds]
    digest = hashlib.blake2b(_digest(_plain(seeds)).encode(), digest_size=DIGEST_BYTES)
    if file:
        try:
            digest.update(Path(file).read_bytes())
        except OSError:
            digest.update(b"unreadable")  # pushing the seeds reports why
    return digest.hexdigest()


def _digest(value: Any) -> str:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.blake2b(
        orjson.dumps(value, default=repr, option=options), digest_size=DIGEST_BYTES
    ).hexdigest()


def _plain(value: Any) -> Any:
    """Return a part of a plan as JSON; expressions and templates are their texts."""
    if isinstance(text := getattr(value, "text", None), str):
        return text
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{'resource' if len(names) == 1 else 'resources'} {', '.join(names[:NAMES_SHOWN])}{more}"
