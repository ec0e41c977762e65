"""Where an output's files are: paths with `${resource}` and `${seed.x}`, none of which leads out of its folder."""

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

ROUTES_MAX = 10_000  # paths that are remembered
VALUE_MAX_BYTES = 100  # a file's name holds 255; a longer value is cut and told apart by its digest
CUT_DIGEST_BYTES = 8

_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]")
_NUMBER = re.compile(r"-([0-9]{5,})\Z")
_ENDINGS = (".gz", ".zst")


def safe(value: Any) -> Any:
    """A value from data as part of a file's name: no separators, no dots alone, not empty, not too long."""
    if isinstance(value, Mapping):
        return {key: safe(inner) for key, inner in value.items()}
    if value is None or value == "":
        return "_"
    if not isinstance(value, str):
        return value if isinstance(value, int | float) else safe(orjson.dumps(value).decode())
    text = _UNSAFE.sub("_", value.encode(errors="replace").decode())
    if not text.strip("."):
        text = "_" * len(text)
    data = text.encode()
    if len(data) > VALUE_MAX_BYTES:
        digest = hashlib.blake2b(value.encode(errors="replace"), digest_size=CUT_DIGEST_BYTES).hexdigest()
        text = f"{data[: VALUE_MAX_BYTES - len(digest) - 1].decode(errors='ignore')}-{digest}"
    return text


def rendered(template: Template, resource: str, seed: Mapping[str, Any]) -> str:
    """A path or a table's name, with the seed's values made safe."""
    names: dict[str, Any] = {"resource": resource}
    if "seed" in template.names:
        wanted = [path[1] for path in template.paths if path[:1] == ("seed",) and len(path) > 1]
        names["seed"] = {**dict.fromkeys(wanted, "_"), **safe(seed)}
    value = template.render(names)
    return "_" if value is None else str(value)


class OutputPath:
    """
    One output's files.

    Args:
        output: With a path.
        base: What a relative path is relative to.
        inside: The path is that of a folder, and this is put after it; the last part alone, where the path
            names the resource itself.

    Attributes:
        folder: The part of the path before the first placeholder; its ledger lies there.
    """

    def __init__(self, output: plan.Output, base: Path, *, inside: str = "") -> None:
        assert output.path is not None
        self.output = output
        self._base = base
        self._template = output.path
        self._inside = inside
        self._seeded = "seed" in output.path.names
        fixed = output.path.prefix
        if not (inside and output.path.is_literal):
            fixed = fixed.rpartition("/")[0]
        self.folder = Path(os.path.normpath(base / fixed))
        self._routes: dict[tuple[str, bytes], Path] = {}

    def path(self, resource: str, seed: Mapping[str, Any]) -> Path:
        """The file of an item; OutputError when the resource's name would lead out of the folder."""
        route = (resource, orjson.dumps(seed, default=str) if self._seeded else b"")
        found = self._routes.get(route)
        if found is None:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            found = self._routes[route] = self._path(resource, seed)
        return found

    def _path(self, resource: str, seed: Mapping[str, Any]) -> Path:
        text = rendered(self._template, resource, seed)
        if self._inside:
            named = "resource" in self._template.names
            own = self._inside.rpartition("/")[2] if named else self._inside.replace("${resource}", resource)
            text = f"{text.rstrip('/')}/{own}"
        path = Path(os.path.normpath(self._base / text))
        inside = path.is_relative_to(self.folder) and path != self.folder
        if not inside or "\0" in text or text.endswith("/") or path.name.startswith(LEDGER_NAME):
            raise OutputError(f"{text!r}: is no name for a file inside {self.folder}")
        return path


def split_name(path: Path) -> tuple[str, str]:
    """`issues.jsonl.gz` as `issues` and `.jsonl.gz`."""
    stem, packed = path.name, ""
    for ending in _ENDINGS:
        if stem.endswith(ending) and stem != ending:
            stem, packed = stem[: -len(ending)], ending
    dot = stem.rfind(".")
    return (stem[:dot], stem[dot:] + packed) if dot > 0 else (stem, packed)


def numbered(path: Path, part: int) -> Path:
    """A part of a file: `issues-00002.jsonl.gz`; part 0 is the file itself."""
    if part == 0:
        return path
    stem, ending = split_name(path)
    return path.with_name(f"{stem}-{part:05d}{ending}")


def parts_there(path: Path) -> list[int]:
    """The numbers of the parts of a file that are on the disk, whoever wrote them, in order."""
    stem, ending = split_name(path)
    found = []
    if path.parent.is_dir():
        for name in os.listdir(path.parent):
            if name.startswith(f"{stem}-") and name.endswith(ending):
                match = _NUMBER.search(name[: len(name) - len(ending)] if ending else name)
                if match and name == f"{stem}-{int(match[1]):05d}{ending}":
                    found.append(int(match[1]))
    return sorted(found)
