"""Names of the files and tables of a run's outputs, for its summary and its lock checks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scrapeq import plan
from scrapeq.sink.output_paths import OutputPath, part_numbers, part_path, render_name

FOLDER_TYPES = {"parquet", "warc"}
FILE_TYPES = {"jsonl", "csv", *FOLDER_TYPES}


def written_outputs(outputs: Sequence[plan.Output], resources: Sequence[str], base: Path) -> tuple[str, ...]:
    """
    Return the files, folders and tables that the outputs have written, as the summary shows them.

    Args:
        outputs: The outputs of the plan.
        resources: The names of the resources that produce items.
        base: The folder that relative paths start from.
    """
    found: dict[str, None] = {}
    for output in outputs:
        of_output = [name for name in resources if not output.resources or name in output.resources]
        for name in _targets(output, of_output, base):
            found[name] = None
    return tuple(found)


def locked_paths(outputs: Sequence[plan.Output], base: Path) -> set[Path]:
    """Return what a writer of these outputs locks: the folders of its files, and SQLite databases."""
    found = set()
    for output in outputs:
        if output.path is not None and output.type in FILE_TYPES:
            found.add(_folder(output, base))
        elif output.path is not None and output.type == "sqlite":
            found.add(Path(os.path.normpath(base.absolute() / str(output.path.render({})))))
    return found


def _folder(output: plan.Output, base: Path) -> Path:
    return OutputPath(
        output, base.absolute(), file_name="${resource}/part" if output.type in FOLDER_TYPES else ""
    ).folder


def _targets(output: plan.Output, resources: Sequence[str], base: Path) -> list[str]:
    if output.type == "sqlite" and output.path is not None:
        database = str(output.path.render({}))
        return [database] if (base / database).exists() else []
    if output.type == "postgres":
        return [f"table {name}" for name in dict.fromkeys(_table_name(output, name) for name in resources)]
    if output.type == "stdout":
        return ["standard output"]
    if output.path is None:
        return [output.type]
    if output.type in FOLDER_TYPES or "seed" in output.path.names:
        folder = _folder(output, base)
        return [_display_path(folder, base) + "/"] if folder.is_dir() else []
    names = []
    for path in dict.fromkeys(OutputPath(output, base.absolute()).path(name, {}) for name in resources):
        parts = part_numbers(path) if output.rotate_bytes or output.rotate_s else []
        if path.exists():
            names.append(_display_path(path, base))
        if parts:
            last = f" to {part_path(path, parts[-1]).name}" if len(parts) > 1 else ""
            names.append(_display_path(part_path(path, parts[0]), base) + last)
    return names


def _table_name(output: plan.Output, resource: str) -> str:
    if output.table is None:
        return resource
    return render_name(output.table, resource, {}) if "seed" not in output.table.names else output.table.text


def _display_path(path: Path, base: Path) -> str:
    """Return the path relative to the base folder if it is inside."""
    absolute = base.absolute()
    return os.path.relpath(path, absolute) if path.is_relative_to(absolute) else str(path)
