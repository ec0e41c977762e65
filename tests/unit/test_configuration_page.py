"""docs/reference/configuration.md documents exactly the keys of the language, and its examples load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scrapeq.config import load
from scrapeq.config.language import language
from scrapeq.config.records import Record, TypedRecord

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
ENV = {name: "postgres://h/d" if name.endswith("URL") else "x" for name in re.findall(r"\$\{env:(\w+)", PAGE)}
ROOT = "the whole file"
# keys that the page documents once, under the first path that has them
REPEATED = {"resources.seeds", "resources.response_actions"}
Keys = set[tuple[str, str]]


def inner(shape: Any) -> Record | None:
    """Return the map shape of a key: the shape itself, the elements of its list or map, or one of its forms."""
    for name in ("_inner", "_map"):
        found = getattr(shape, name, None)
        if found is not None and not isinstance(shape, Record):
            return inner(found)
    return shape if isinstance(shape, Record) else None


def records(path: str, record: Record) -> Iterator[tuple[str, Keys]]:
    """Yield the path and the keys of every map of the language; each key with the type that it belongs to, or ""."""
    built = {name: key for name, key in record.keys.items() if key.shape or name == "resource_defaults"}
    if isinstance(record, TypedRecord):
        typed = {(kind, name) for kind, keys in record._by_type.items() for name in keys}
        yield path, {("", name) for name in record._common} | typed
    else:
        yield path, {("", name) for name in built}
    for name, key in built.items():
        below = name if path == ROOT else f"{path}.{name}"
        found = inner(key.shape)
        if found is not None and below not in REPEATED:
            yield from records(below, found)


def documented_keys() -> dict[str, Keys]:
    """Return the keys in the tables of the page, by the paths that the heading above them names."""
    found: dict[str, Keys] = {}
    paths: list[str] = []
    for line in PAGE.splitlines():
        if line.startswith("#"):
            paths = re.findall(r"`([^`]+)`", line) or [line.lstrip("# ").lower()]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        keys = [cell for cell in cells[:2] if re.fullmatch(r"`\w+`", cell)]
        if not keys or paths[0] in ("expressions",):
            continue
        kinds = cells[0].split(", ") if keys[0] != cells[0] else [""]
        for path in paths:
            found.setdefault(path, set()).update((kind, keys[0].strip("`")) for kind in kinds)
    return found


def test_page_documents_exactly_the_keys_of_the_language() -> None:
    """Compares path by path and type by type; the prose of the page names the keys that `match` of a limit lacks."""
    documented, known = documented_keys(), dict(records(ROOT, language()))
    assert documented.keys() == known.keys()
    responses_only = {("", name) for name in ("status", "exception", "when")}
    assert known["rate_limits.match"] | responses_only == known["response_actions.match"]
    known["rate_limits.match"] |= responses_only
    assert {path: documented[path] ^ known[path] for path in known if documented[path] != known[path]} == {}


def test_page_names_every_type() -> None:
    """Includes types without their own keys."""
    for _, found in typed("", language()):
        assert [kind for kind in found._by_type if f"`{kind}`" not in PAGE and f" {kind}" not in PAGE] == []


def typed(path: str, record: Record) -> Iterator[tuple[str, TypedRecord]]:
    """Yield every map whose keys depend on its type."""
    if isinstance(record, TypedRecord):
        yield path, record
    for name, key in record.keys.items():
        found = inner(key.shape)
        if found is not None and name != "default":
            yield from typed(name, found)


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(at) for at in range(len(EXAMPLES))])
def test_every_example_of_the_page_loads(example: str) -> None:
    """Each example is completed with the keys that every file needs."""
    head = {"version": "version: 1", "name": "name: acme", "resources": "resources: [a]"}
    head["client"] = "client: {base_url: https://a.test}"
    lines = [line for key, line in head.items() if not re.search(rf"^{key}:", example, re.M)]
    assert load("a.yaml", text="\n".join([*lines, example]), env=ENV).resources
