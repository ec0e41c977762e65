"""What a run begins with: the seeds of the plan, of a file, or by hand. Files are read line by line."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from scrapeq.errors import UsageError
from scrapeq.expression import as_number
from scrapeq.plan import Plan, Resource
from scrapeq.protocols import IncrementalStart
from scrapeq.resource.address import parse_url
from scrapeq.resource.task_builder import GroupOf, TaskBuilder
from scrapeq.task import NewTask

SEED_FILES = (".csv", ".jsonl", ".ndjson", ".txt")
LINE_MAX = 1 << 20  # characters, as many as a payload may have


class Seed(NamedTuple):
    """A seed's values, and where they stand (`seeds.csv:7`; empty = in the plan)."""

    values: Mapping[str, Any]
    position: str = ""


def starts_by_itself(resource: Resource) -> bool:
    """Whether a run begins with it: it has an endpoint, and no parent or seeds of its own."""
    source = bool(resource.seeds or resource.seed_file)
    return resource.endpoint is not None and (source or not resource.parents)


def seeds_of(plan: Plan, resource: Resource) -> Iterator[Seed]:
    """
    Its own seeds, else the plan's, else one without values.

    Raises:
        UsageError: a seed file cannot be read, or a line of it makes no sense.
    """
    source = resource if resource.seeds or resource.seed_file else plan
    if not source.seeds and not source.seed_file:
        yield Seed({})
    for values in source.seeds:
        yield Seed(values)
    if source.seed_file:
        yield from read_seed_file(source.seed_file)


def read_seed_file(file: str) -> Iterator[Seed]:
    """
    The seeds of a file, one after the other: csv with a header line, jsonl of objects, or txt with one url a line.

    Blank lines, and in txt those that begin with #, are passed over.

    Raises:
        UsageError: it cannot be read, or a line makes no sense; the message names file and line.
    """
    path = Path(file)
    kind = path.suffix.lower()
    if kind not in SEED_FILES:
        raise UsageError(f"{file}: a file of seeds ends in {', '.join(SEED_FILES)}")
    try:
        with path.open(encoding="utf-8-sig", newline="" if kind == ".csv" else None) as lines:
            reader = {".csv": _csv_rows, ".jsonl": _json_lines, ".ndjson": _json_lines, ".txt": _url_lines}[kind]
            for line, values in reader(file, lines):
                yield Seed(values, f"{file}:{line}")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is no UTF-8 text") from None


def _csv_rows(file: str, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header or not all(header) or len(set(header)) < len(header):
            raise UsageError(f"{file}:1: the first line names the columns, each once")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise UsageError(f"{file}:{reader.line_num}: {len(row)} values for {len(header)} columns")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UsageError(f"{file}:{reader.line_num}: is no CSV: {error}") from None


def _json_lines(file: str, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = orjson.loads(line) if len(line) <= LINE_MAX else None
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{file}:{number}: is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise UsageError(f'{file}:{number}: a line is one JSON object: {{"repo": "a"}}')
        yield number, values


def _url_lines(file: str, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        url = line.strip()
        if not url or url.startswith("#"):
            continue
        try:
            parse_url(url)
        except UsageError as error:
            raise UsageError(f"{file}:{number}: {error}") from None
        yield number, {"url": url}


def first_pages(
    builder: TaskBuilder, now_s: float, resources: Collection[str] | None = None, occurrence: int = 0
) -> Iterator[NewTask | IncrementalStart]:
    """
    What begins with each seed of each resource that can start by itself.

    Its priority is what `seed_priority` says, else the time. A seed that leaves a null in the path is skipped.

    Args:
        builder: Of the plan.
        now_s: Unix seconds.
        resources: Only these; None = all.
        occurrence: Of the resources that have a schedule; 0 = they are asked for once, as all others.

    Raises:
        UsageError: a seed makes no request, its file makes no sense, or a resource of that name does not exist.
    """
    for name in resources or ():
        builder.resource(name)
    for resource in builder.plan.resources:
        if starts_by_itself(resource) and (resources is None or resource.name in resources):
            yield from _first_pages_of(builder, resource, now_s, occurrence if resource.schedule else 0)


def _first_pages_of(
    builder: TaskBuilder, resource: Resource, now_s: float, occurrence: int
) -> Iterator[NewTask | IncrementalStart]:
    priority_source = resource if resource.seeds or resource.seed_file else builder.plan
    for seed in seeds_of(builder.plan, resource):
        priority_value = None
        if priority_source.seed_priority is not None:
            priority_value = as_number(priority_source.seed_priority.evaluate({"seed": seed.values, "now": now_s}))
        try:
            priority_value = now_s if priority_value is None else priority_value
            first = builder.seed_start(resource, seed.values, priority_value, 0.0, now_s, occurrence)
        except UsageError as error:
            raise UsageError(f"{seed.position}: {error}" if seed.position else str(error)) from None
        if first is not None:
            yield first


def first_tasks(
    plan: Plan, group_of: GroupOf, now_s: float, resources: Collection[str] | None = None
) -> Iterator[NewTask]:
    """The tasks that a run begins with when nothing was kept; see `first_pages`."""
    for first in first_pages(TaskBuilder(plan, group_of), now_s, resources):
        task = first.build(None) if isinstance(first, IncrementalStart) else first
        if task is not None:
            yield task


def seed_task(
    plan: Plan,
    resource: str,
    seed: Mapping[str, Any] | str,
    priority: float | None,
    delay_s: float,
    group_of: GroupOf,
    now_s: float,
) -> NewTask:
    """
    One task by hand.

    Args:
        plan: The plan it belongs to.
        resource: Which resource reads the answer.
        seed: A seed's values, or an address, which is taken as it is.
        priority: Any finite number; None = the time.
        delay_s: Seconds before which it is not sent.
        group_of: Says which limits it belongs to.
        now_s: Unix seconds.

    Raises:
        UsageError: no such resource, no request can be built, or a number makes no sense.
    """
    builder = TaskBuilder(plan, group_of)
    kind = builder.resource(resource)
    priority_value = now_s if priority is None else priority
    if not math.isfinite(priority_value):
        raise UsageError(f"priority: {priority_value!r} is no finite number")
    if isinstance(seed, str):
        return builder.from_url(kind, seed, priority_value, delay_s)
    task = builder.from_seed(kind, seed, priority_value, delay_s, now_s)
    if task is None:
        raise UsageError(f"{resource}: this seed leaves a null in the path: {dict(seed)}")
    return task
