"""
One YAML file in, one frozen plan out, or every mistake in it with its place.

`load` reads, `describe` shows a plan with its secrets masked, `schema` is the language as JSON Schema.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scrapeq.config import reader
from scrapeq.config.build import build
from scrapeq.config.crosscheck import CrossCheck
from scrapeq.config.describe import describe
from scrapeq.config.language import language, schema
from scrapeq.config.nodes import Node
from scrapeq.config.normalize import normalize
from scrapeq.config.read_context import InvalidValue, ReadContext
from scrapeq.errors import ConfigError, Problem
from scrapeq.plan import Plan

__all__ = ["describe", "load", "schema"]


def load(
    path: str | Path,
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    text: str | None = None,
    inputs: bool = True,
    credentials: bool = True,
) -> Plan:
    """
    Read a configuration.

    Args:
        path: The file; `${file:...}` is relative to its folder.
        env: The environment; None = this process's.
        overrides: Flags, as `{"run.workers": 3}`; a text is read as YAML. They win over `SCRAPEQ_REDIS_URL`,
            `SCRAPEQ_WORKERS` and `SCRAPEQ_CONCURRENCY`, which win over the file.
        text: What the file says, if that is known already.
        inputs: Whether the files of seeds must be there already.
        credentials: Whether their environment variables must be set; what asks nobody does without.

    Raises:
        ConfigError: every problem that was found, in the order of the file.
    """
    file = str(path)
    context = ReadContext(os.environ if env is None else env, Path(file).parent, inputs, credentials)
    source = _text_of(file) if text is None else text
    root = reader.read(source, file)
    _check_version(root, context)
    root = normalize(root, context, overrides or {})
    name = root.get("name")
    if name and name.kind == "scalar" and name.text:
        context.name = name.text
    try:
        found = language().read(root, "", context)
    except InvalidValue:
        raise ConfigError(context.problems) from None
    CrossCheck(found, context).run()
    if context.problems:
        raise ConfigError(_in_order(context.problems))
    return replace(build(found, file), source=source, overrides=dict(overrides or {}))


def _text_of(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            data = opened.read(reader.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem(file, 0, 0, "", f"cannot be read: {reason}")]) from None
    return reader.decode(data, file)


def _check_version(root: Node, context: ReadContext) -> None:
    """A newer file is refused at once: nothing else in it can be judged."""
    version = root.get("version") if root.kind == "map" else None
    if version and isinstance(version.value, int) and not isinstance(version.value, bool):
        try:
            shape = language().keys["version"].shape
            assert shape is not None
            shape.read(version, "version", context)
        except InvalidValue:
            raise ConfigError(context.problems) from None


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By place, each once: a default that is wrong shows in every resource that has it."""
    seen: set[tuple[str, int, int, str]] = set()
    kept = []
    for problem in sorted(problems, key=lambda p: (p.line, p.col)):
        key = (problem.file, problem.line, problem.col, problem.message)
        if key not in seen or not problem.line:
            kept.append(problem)
        seen.add(key)
    return kept
