"""
Reads a YAML configuration file into a plan, or reports every mistake in it with line and column.

`load` reads a file, `describe` returns a plan with its secrets masked, `schema` returns the JSON Schema of the
language.
"""

from __future__ import annotations

import os
import re
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

_ORIGIN = re.compile(r"https?://[^/?#${}]+(?=[/?#]|$)", re.IGNORECASE)  # without placeholders

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
    Read a configuration file.

    Args:
        path: The file; the paths of `${file:...}` are relative to its folder.
        env: The environment variables; None reads those of this process.
        overrides: Flags, such as `{"run.workers": 3}`; a string is parsed as YAML. They override
            `SCRAPEQ_REDIS_URL`, `SCRAPEQ_WORKERS` and `SCRAPEQ_CONCURRENCY`, which override the file.
        text: The contents of the file, if the caller has read it.
        inputs: Whether the files of seeds must exist.
        credentials: Whether the environment variables of credentials must be set; False is for commands that send no
            requests.

    Returns:
        The plan.

    Raises:
        ConfigError: The file has problems; carries all of them, in the order of the file.
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
    plan = build(found, file)
    client = replace(plan.client, secrets=tuple(context.secrets), url_hosts=_url_hosts(plan))
    return replace(plan, client=client, source=source, overrides=dict(overrides or {}))


def _url_hosts(plan: Plan) -> tuple[str, ...]:
    """Return the origins of the full URLs that resources request."""
    urls = [resource.endpoint.url for resource in plan.resources if resource.endpoint is not None]
    found = (_ORIGIN.match(url.source) for url in urls if url is not None)
    return tuple(dict.fromkeys(origin[0] for origin in found if origin))


def _text_of(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            data = opened.read(reader.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem(file, 0, 0, "", f"cannot be read: {reason}")]) from None
    return reader.decode(data, file)


def _check_version(root: Node, context: ReadContext) -> None:
    """Reject a file of another version before reading anything else in it."""
    version = root.get("version") if root.kind == "map" else None
    if version and isinstance(version.value, int) and not isinstance(version.value, bool):
        try:
            shape = language().keys["version"].shape
            assert shape is not None
            shape.read(version, "version", context)
        except InvalidValue:
            raise ConfigError(context.problems) from None


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Sort problems by position and drop duplicates: a wrong default is found once in each resource."""
    seen: set[tuple[str, int, int, str]] = set()
    unique = []
    for problem in sorted(problems, key=lambda p: (p.line, p.col)):
        key = (problem.file, problem.line, problem.col, problem.message)
        if key not in seen or not problem.line:
            unique.append(problem)
        seen.add(key)
    return unique
