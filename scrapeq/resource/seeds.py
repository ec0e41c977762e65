"""The tasks that a run starts with: from the plan's seeds, from seed files (read line by line), or added manually."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Iterator, Mapping
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
    """The values of a seed, and their position (`seeds.csv:7`; empty = in the plan)."""

    values: Mapping[str, Any]
    position: str = ""


def starts_by_itself(resource: Resource) -> bool:
    """Return whether a run starts with this resource: it has an endpoint, and its own seeds or no parent."""
    source = bool(resource.seeds or resource.seed_file)
    return resource.endpoint is not None and (source or not resource.parents)


def seeds_of(plan: Plan, resource: Resource) -> Iterator[Seed]:
    """
    Yield the resource's own seeds, or else the plan's, or else one without values.

    Raises:
        UsageError: a seed file cannot be read, or one of its lines is invalid.
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
    Yield the seeds of a file: CSV with a header, JSON Lines of objects, or text with one URL per line.

    Blank lines are skipped, and in text files lines that begin with #.

    Raises:
        UsageError: the file cannot be read, or a line is invalid; the message names file and line.
    """
    path = Path(file)
    kind = path.suffix.lower()
    if kind not in SEED_FILES:
        raise UsageError(f"{file}: unknown type of seed file; its name must end in {', '.join(SEED_FILES)}")
    try:
        with path.open(encoding="utf-8-sig", newline="" if kind == ".csv" else None) as lines:
            reader = {".csv": _csv_rows, ".jsonl": _json_lines, ".ndjson": _json_lines, ".txt": _url_lines}[
                kind
            ]
            for line, values in reader(file, lines):
                yield Seed(values, f"{file}:{line}")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: not UTF-8 text; save it as UTF-8") from None


def _csv_rows(file: str, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header or not all(header) or len(set(header)) < len(header):
            raise UsageError(f"{file}:1: the first line must name the columns, each with a different name")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise UsageError(f"{file}:{reader.line_num}: {len(row)} values for {len(header)} columns")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UsageError(f"{file}:{reader.line_num}: invalid CSV: {error}") from None


def _json_lines(file: str, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = orjson.loads(line) if len(line) <= LINE_MAX else None
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{file}:{number}: invalid JSON: {error}") from None
        if not isinstance(values, dict):
            raise UsageError(
                f'{file}:{number}: expected one JSON object per line, for example {{"repo": "a"}}'
            )
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
    builder: TaskBuilder,
    now_s: float,
    resources: Collection[str] | None = None,
    occurrence: int = 0,
    wanted: Callable[[Resource, Mapping[str, Any]], bool] | None = None,
) -> Iterator[NewTask | IncrementalStart]:
    """
    Yield the first page of each seed of each resource that starts by itself.

    Its priority is the value of `seed_priority`, or else the time. A seed that makes a null in the path is skipped.

    Args:
        builder: The plan's task builder.
        now_s: Unix seconds.
        resources: Only these; None = all.
        occurrence: The number of the scheduled run, for resources with a schedule; 0 = they run once, like the others.
        wanted: Says for a resource and a seed whether to yield its page; None = all.

    Raises:
        UsageError: a seed makes an invalid request, its file is invalid, or there is no resource of that name.
    """
    for name in resources or ():
        builder.resource(name)
    for resource in builder.plan.resources:
        if starts_by_itself(resource) and (resources is None or resource.name in resources):
            yield from _first_pages_of(
                builder, resource, now_s, occurrence if resource.schedule else 0, wanted
            )


def _first_pages_of(
    builder: TaskBuilder,
    resource: Resource,
    now_s: float,
    occurrence: int,
    wanted: Callable[[Resource, Mapping[str, Any]], bool] | None,
) -> Iterator[NewTask | IncrementalStart]:
    ranked_by = resource if resource.seeds or resource.seed_file else builder.plan
    for seed in seeds_of(builder.plan, resource):
        if wanted is not None and not wanted(resource, seed.values):
            continue
        rank = None
        if ranked_by.seed_priority is not None:
            rank = as_number(ranked_by.seed_priority.evaluate({"seed": seed.values, "now": now_s}))
        try:
            rank = now_s if rank is None else rank
            first = builder.seed_start(resource, seed.values, rank, 0.0, now_s, occurrence)
        except UsageError as error:
            raise UsageError(f"{seed.position}: {error}" if seed.position else str(error)) from None
        if first is not None:
            yield first


def first_tasks(
    plan: Plan, group_of: GroupOf, now_s: float, resources: Collection[str] | None = None
) -> Iterator[NewTask]:
    """Yield the tasks of a run without stored cursor states; see `first_pages`."""
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
    Return one task that the user adds manually.

    Args:
        plan: Its plan.
        resource: The name of the resource that reads the response.
        seed: The values of a seed, or a URL to request as it is.
        priority: Any finite number; None = the time.
        delay_s: Seconds before the task is due.
        group_of: Returns the group of limits of a request.
        now_s: Unix seconds.

    Raises:
        UsageError: there is no such resource, the request is invalid, or a number is.
    """
    builder = TaskBuilder(plan, group_of)
    kind = builder.resource(resource)
    rank = now_s if priority is None else priority
    if not math.isfinite(rank):
        raise UsageError(f"priority: {rank!r} is not a finite number")
    if isinstance(seed, str):
        return builder.from_url(kind, seed, rank, delay_s)
    task = builder.from_seed(kind, seed, rank, delay_s, now_s)
    if task is None:
        raise UsageError(
            f"{resource}: the path is null for the seed {dict(seed)}; give a value for each placeholder"
        )
    return task
