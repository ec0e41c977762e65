"""The names of `import scrapeq` are sorted, importable, and sufficient for the signatures of its classes."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scrapeq
import scrapeq.queue

ENTRY_POINTS = ("DPQ", "Fetcher", "Queue")
SOURCE = Path(scrapeq.__file__)
# Classes of parameters that only tests pass: a clock, and the source of permits.
INJECTED = {"Clock", "Limiter"}


def test_all_is_sorted() -> None:
    """The order is that of ruff: constants, classes, then all others."""
    assert scrapeq.__all__ == sorted(
        scrapeq.__all__, key=lambda name: (name.startswith("_"), not name.isupper(), name)
    )


def test_all_matches_the_names_for_type_checkers() -> None:
    """The lazy table, the imports for type checkers and `__all__` have the same names."""
    lazy = {*scrapeq._MODULES, "__version__"}
    assert lazy == {*scrapeq.__all__}
    typed = {
        alias.name
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.If)
        for each in node.body
        if isinstance(each, ast.ImportFrom)
        for alias in each.names
    }
    assert typed | {"__version__"} == lazy


@pytest.mark.parametrize("name", scrapeq.__all__)
def test_every_name_can_be_imported(name: str) -> None:
    """A name is imported when it is first used."""
    assert getattr(scrapeq, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The message is that of any module."""
    with pytest.raises(AttributeError, match="'scrapeq' has no attribute 'Nothing'"):
        _ = scrapeq.Nothing


def test_importing_scrapeq_loads_no_other_module_of_it() -> None:
    """Only the version is imported; all other names are lazy."""
    code = "import scrapeq, sys; print(*[name for name in sys.modules if name.startswith('scrapeq.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["scrapeq.version"]


def own_classes(annotation: Any, names: dict[str, Any]) -> set[str]:
    """Return the names of scrapeq's classes in an annotation, which is a string."""
    if not isinstance(annotation, str):
        return set()
    found = set()
    for node in ast.walk(ast.parse(annotation, mode="eval")):
        if isinstance(node, ast.Name):
            value = names.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            value = getattr(names.get(node.value.id), node.attr, None)
        else:
            continue
        if inspect.isclass(value) and value.__module__.startswith("scrapeq."):
            found.add(value.__name__)
    return found


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_classes_in_signatures_are_exported(entry_point: str) -> None:
    """Every class of scrapeq in a public signature can be imported from `scrapeq` or `scrapeq.queue`."""
    needed = set()
    for name, method in inspect.getmembers(getattr(scrapeq, entry_point), inspect.isfunction):
        if name.startswith("_") and name != "__init__":
            continue
        signature = inspect.signature(method)
        annotations = [parameter.annotation for parameter in signature.parameters.values()]
        for annotation in (*annotations, signature.return_annotation):
            needed |= own_classes(annotation, method.__globals__)
    assert needed - {*scrapeq.__all__, *scrapeq.queue.__all__} - INJECTED == set()
    assert needed
