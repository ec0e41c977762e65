"""Rules for the code of the package: file sizes, names, docstrings, headers of Lua files, unsafe calls."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from scrapeq import config

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "scrapeq"
MODULES = sorted(PACKAGE.rglob("*.py"))
LUA = sorted(PACKAGE.rglob("*.lua"))
BANNED = {"utils", "util", "common", "helpers", "models", "misc"}
MAX_LINES = 500
# Methods that a base class documents: a class of the package, or one of asyncio, httpx and aiohttp.
DOCUMENTED = {
    node.name
    for path in MODULES
    for found in ast.walk(ast.parse(path.read_text()))
    if isinstance(found, ast.ClassDef)
    for node in found.body
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node)
} | {"connection_lost", "connection_made", "data_received", "handle_async_request", "resolve"}


def test_no_file_is_too_long() -> None:
    """No file of the package or its tests has more than 500 lines."""
    files = [*MODULES, *LUA, *(ROOT / "tests").rglob("*.py")]
    too_long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in too_long.items() if lines > MAX_LINES} == {}


def test_no_file_has_a_meaningless_name() -> None:
    """A name such as utils or common does not say what a file contains."""
    assert [path for path in PACKAGE.rglob("*") if path.stem in BANNED] == []


@pytest.mark.parametrize("path", LUA, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_script_starts_with_its_contract(path: Path) -> None:
    """The header of a script lists KEYS and RETURNS or REPLY, that of an include GIVES."""
    head = [line for line in path.read_text().splitlines() if line.startswith("--")]
    text = "\n".join(head)
    assert head[0].startswith(f"-- {path.stem}: ")
    if path.parent.name == "include":
        assert re.search(r"^-- GIVES ", text, re.M)
    else:
        assert re.search(r"^-- KEYS ", text, re.M)
        assert re.search(r"^-- (RETURNS|REPLY) ", text, re.M)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_public_name_has_a_docstring(path: Path) -> None:
    """Covers modules, public classes and functions, and public methods of public classes."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module lacks a docstring"
    missing = []

    def check(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> None:
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_"):
                continue
            inherited = owner is not None and owner.bases and node.name in DOCUMENTED
            if not ast.get_docstring(node) and not inherited:
                missing.append(f"{owner.name}.{node.name}" if owner else node.name)
            if isinstance(node, ast.ClassDef):
                check(node.body, node)

    check(tree.body)
    assert missing == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_configuration_loads(path: Path) -> None:
    """The environment has the variables that the file requires."""
    required = re.findall(r"\$\{env:(\w+)\}", path.read_text())
    assert config.load(path, env=dict.fromkeys(required, "x")).name


def test_no_unit_test_sleeps() -> None:
    """Unit tests use a fake clock."""
    sleeping = re.compile(r"(time|asyncio)\.sleep\((?!0\))")
    files = (ROOT / "tests" / "unit").rglob("*.py")
    assert [path.name for path in files if sleeping.search(path.read_text())] == []


def test_no_test_module_imports_another_test_module() -> None:
    """Everything that several test modules need is in tests/support."""
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")} | {"conftest"}
    imports = {
        (path.name, name)
        for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imported(node)
    }
    assert [(importer, name) for importer, name in imports if tests.intersection(name.split("."))] == []


def test_helpers_of_tests_are_in_the_support_folder() -> None:
    """The folders of the tests contain test modules and conftest.py only."""
    modules = (ROOT / "tests").rglob("*.py")
    helpers = [path for path in modules if not path.name.startswith("test_") and path.name != "conftest.py"]
    assert [path for path in helpers if ROOT / "tests" / "support" not in path.parents] == []


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module or ''}.{alias.name}" for alias in node.names]
    return []


def test_data_is_never_executed() -> None:
    """The package uses neither pickle nor eval nor exec, and only restricted YAML loaders."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                if names & {"pickle", "cloudpickle", "marshal", "shelve", "dill"}:
                    found.append(f"{path.name}: {sorted(names)}")
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "compile"}:
                    found.append(f"{path.name}:{node.lineno}: {node.func.id}")
                if ast.unparse(node.func) in {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}:
                    found.append(f"{path.name}:{node.lineno}: {ast.unparse(node.func)}")
    assert found == []
