"""What a run has written, in words for its summary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scrapeq import plan
from scrapeq.sink.output_paths import OutputPath, numbered, parts_there, rendered

FOLDERS = {"parquet", "warc"}
FILED = {"jsonl", "csv", *FOLDERS}


def written(outputs: Sequence[plan.Output], resources: Sequence[str], base: Path) -> tuple[str, ...]:
    """
    The files, folders and tables that are there, each once.

    Args:
        outputs: The outputs of the plan.
        resources: Those that write items.
        base: What relative paths are relative to.
    """
    found: dict[str, None] = {}
    for output in outputs:
        its = [name for name in resources if not output.resources or name in output.resources]
        for name in _of_output(output, its, base):
            found[name] = None
    return tuple(found)


def held(outputs: Sequence[plan.Output], base: Path) -> set[Path]:
    """What a writer of these outputs keeps others from: folders by their ledgers, and SQLite databases."""
    found = set()
    for output in outputs:
        if output.path is not None and output.type in FILED:
            found.add(_folder(output, base))
        elif output.path is not None and output.type == "sqlite":
            found.add(Path(os.path.normpath(base.absolute() / str(output.path.render({})))))
    return found


def _folder(output: plan.Output, base: Path) -> Path:
    return OutputPath(
        output, base.absolute(), inside="${resource}/part" if output.type in FOLDERS else ""
    ).folder


def _of_output(output: plan.Output, resources: Sequence[str], base: Path) -> list[str]:
    if output.type == "sqlite" and output.path is not None:
        database = str(output.path.render({}))
        return [database] if (base / database).exists() else []
    if output.type == "postgres":
        return [f"table {name}" for name in dict.fromkeys(_table(output, name) for name in resources)]
    if output.type == "stdout":
        return ["standard output"]
    if output.path is None:
        return [output.type]
    if output.type in FOLDERS or "seed" in output.path.names:
        folder = _folder(output, base)
        return [_shown(folder, base) + "/"] if folder.is_dir() else []
    names = []
    for path in dict.fromkeys(OutputPath(output, base.absolute()).path(name, {}) for name in resources):
        parts = parts_there(path) if output.rotate_bytes or output.rotate_s else []
        if path.exists():
            names.append(_shown(path, base))
        if parts:
            last = f" to {numbered(path, parts[-1]).name}" if len(parts) > 1 else ""
            names.append(_shown(numbered(path, parts[0]), base) + last)
    return names


def _table(output: plan.Output, resource: str) -> str:
    if output.table is None:
        return resource
    return rendered(output.table, resource, {}) if "seed" not in output.table.names else output.table.text


def _shown(path: Path, base: Path) -> str:
    """Relative where it is inside."""
    absolute = base.absolute()
    return os.path.relpath(path, absolute) if path.is_relative_to(absolute) else str(path)
