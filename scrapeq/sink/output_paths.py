"""The files of an output: paths with `${resource}` and `${seed.x}` filled in, never outside the output's folder."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from scrapeq import plan
from scrapeq.errors import OutputError
from scrapeq.expression import Template
from scrapeq.sink.ledger import LEDGER_NAME

MAX_CACHED_PATHS = 10_000
MAX_VALUE_BYTES = 100  # of a file name's 255; longer values are truncated, and a digest tells them apart
DIGEST_BYTES = 8

_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]")
_PART_NUMBER = re.compile(r"-([0-9]{5,})\Z")
_COMPRESSED_SUFFIXES = (".gz", ".zst")


def safe_name(value: Any) -> Any:
    """Return a value from data as a part of a file name: without separators, not only dots, not empty, not too long."""
    if isinstance(value, Mapping):
        return {key: safe_name(inner) for key, inner in value.items()}
    if value is None or value == "":
        return "_"
    if not isinstance(value, str):
        return value if isinstance(value, int | float) else safe_name(orjson.dumps(value).decode())
    text = _UNSAFE.sub("_", value.encode(errors="replace").decode())
    if not text.strip("."):
        text = "_" * len(text)
    data = text.encode()
    if len(data) > MAX_VALUE_BYTES:
        digest = hashlib.blake2b(value.encode(errors="replace"), digest_size=DIGEST_BYTES).hexdigest()
        text = f"{data[: MAX_VALUE_BYTES - len(digest) - 1].decode(errors='ignore')}-{digest}"
    return text


def render_name(template: Template, resource: str, seed: Mapping[str, Any]) -> str:
    """Return a path or the name of a table, with the values of the seed made safe (`safe_name`)."""
    names: dict[str, Any] = {"resource": resource}
    if "seed" in template.names:
        fields = [path[1] for path in template.paths if path[:1] == ("seed",) and len(path) > 1]
        names["seed"] = {**dict.fromkeys(fields, "_"), **safe_name(seed)}
    value = template.render(names)
    return "_" if value is None else str(value)


class OutputPath:
    """
    The path setting of one output.

    Args:
        output: The settings of the output, with a path.
        base: The folder that a relative path starts from.
        file_name: The path is a folder, and this is the file in it, perhaps with `${resource}/` before it, which is
            left out if the path itself contains `${resource}`. "": the path is a file.

    Attributes:
        folder: The part of the path before the first placeholder. The ledger is stored there.
    """

    def __init__(self, output: plan.Output, base: Path, *, file_name: str = "") -> None:
        assert output.path is not None
        self.output = output
        self._base = base
        self._template = output.path
        self._file_name = file_name
        self._uses_seed = "seed" in output.path.names
        fixed = output.path.prefix
        if not (file_name and output.path.is_literal):
            fixed = fixed.rpartition("/")[0]
        self.folder = Path(os.path.normpath(base / fixed))
        self._paths: dict[tuple[str, bytes], Path] = {}

    def path(self, resource: str, seed: Mapping[str, Any]) -> Path:
        """Return the file of an item. Raises OutputError if the path would lead out of the folder."""
        key = (resource, orjson.dumps(seed, default=str) if self._uses_seed else b"")
        found = self._paths.get(key)
        if found is None:
            if len(self._paths) >= MAX_CACHED_PATHS:
                self._paths.clear()
            found = self._paths[key] = self._path(resource, seed)
        return found

    def _path(self, resource: str, seed: Mapping[str, Any]) -> Path:
        text = render_name(self._template, resource, seed)
        if self._file_name:
            names_resource = "resource" in self._template.names
            name = (
                self._file_name.rpartition("/")[2]
                if names_resource
                else self._file_name.replace("${resource}", resource)
            )
            text = f"{text.rstrip('/')}/{name}"
        path = Path(os.path.normpath(self._base / text))
        is_inside = path.is_relative_to(self.folder) and path != self.folder
        if not is_inside or "\0" in text or text.endswith("/") or path.name.startswith(LEDGER_NAME):
            raise OutputError(f"{text!r}: not a valid file name inside {self.folder}; change path")
        return path


def split_name(path: Path) -> tuple[str, str]:
    """Split `issues.jsonl.gz` into `issues` and `.jsonl.gz`."""
    stem, compressed = path.name, ""
    for suffix in _COMPRESSED_SUFFIXES:
        if stem.endswith(suffix) and stem != suffix:
            stem, compressed = stem[: -len(suffix)], suffix
    dot = stem.rfind(".")
    return (stem[:dot], stem[dot:] + compressed) if dot > 0 else (stem, compressed)


def part_path(path: Path, part: int) -> Path:
    """Return the path of a part, for example `issues-00002.jsonl.gz`. Part 0 is the file itself."""
    if part == 0:
        return path
    stem, suffix = split_name(path)
    return path.with_name(f"{stem}-{part:05d}{suffix}")


def part_numbers(path: Path) -> list[int]:
    """Return the sorted numbers of the existing parts of a file, also of parts that scrapeq did not write."""
    stem, suffix = split_name(path)
    found = []
    if path.parent.is_dir():
        for name in os.listdir(path.parent):
            if name.startswith(f"{stem}-") and name.endswith(suffix):
                match = _PART_NUMBER.search(name[: len(name) - len(suffix)] if suffix else name)
                if match and name == f"{stem}-{int(match[1]):05d}{suffix}":
                    found.append(int(match[1]))
    return sorted(found)
