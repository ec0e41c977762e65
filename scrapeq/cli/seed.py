"""The command `seed`: add tasks to a queue."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import print_message
from scrapeq.cli.formatting import count, counted, safe
from scrapeq.cli.options import check_resource, read_duration, read_priority
from scrapeq.cli.queue_access import with_store
from scrapeq.cli.seed_lines import NumberedLine, SeedLine, check_url, read_batches
from scrapeq.cli.settings import Settings
from scrapeq.errors import ScrapeqError, UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.plan import Plan
    from scrapeq.protocols import CursorStore, IncrementalStart
    from scrapeq.queue import Queue
    from scrapeq.resource import TaskBuilder
    from scrapeq.task import NewTask

BATCH = 1000  # tasks pushed in one call
SLOW_PUSH_S = 3.0  # a push that takes longer is reported
INVALID_SHOWN = 100  # further invalid lines are only counted
STDIN = "-"
NULL_IN_PATH = "a value in the path is null or missing in this seed"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Run")(seed)


def seed(
    ctx: typer.Context,
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="URL...", help="URLs, requested as they are.")
    ] = None,
    file: Annotated[
        str, typer.Option("-f", "--file", metavar="FILE", help="One task per line; - is standard input.")
    ] = "",
    resource: Annotated[
        str,
        typer.Option(
            "--resource", metavar="NAME", help="Resource that reads the responses. Default: the only one."
        ),
    ] = "",
    priority: Annotated[
        str,
        typer.Option(
            "--priority",
            metavar="N",
            help="A number or a time; higher comes first. Default: the current time.",
        ),
    ] = "",
    delay: Annotated[
        str, typer.Option("--delay", metavar="10m", help="Wait so long before the first request.")
    ] = "",
) -> int:
    """
    Add tasks to the queue, before or during a run. Tasks that the queue already has are not added again.

    \b
        scrapeq seed -f repositories.jsonl --resource issues --priority 100

    A line of FILE is a URL, or a JSON object: the values of a seed, as under seeds: in the YAML, or an object with
    url or seed, and resource, priority, delay. Blank lines and # comments are ignored. Invalid lines are reported with
    their number, the others are added.

    Exit codes: 0 all lines were added, 2 some lines are invalid or wrong usage.
    """
    settings: Settings = ctx.obj
    if urls and list(urls) == [STDIN]:
        urls, file = None, file or STDIN
    if bool(urls) == bool(file):
        raise UsageError("seed: give URLs or -f FILE (- is standard input)")
    for url in urls or ():
        check_url(url)  # before any task is added
    plan = settings.plan()
    defaults = SeedLine(
        "",
        resource or _default_resource(plan, bool(file)),
        read_priority(priority, "--priority") if priority else None,
        read_duration(delay, "--delay") if delay else None,
    )
    if defaults.resource:
        check_resource([one.name for one in plan.resources], defaults.resource, "--resource")
    source = "standard input" if file == STDIN else file or "the command line"
    seeding = Seeding(plan, defaults, source)
    if urls:
        batches = _lines_of(urls)
        with_store(plan, lambda queue, client: seeding.push_all(queue, client, batches))
    else:
        with _open(file) as fd:
            with_store(plan, lambda queue, client: seeding.push_all(queue, client, read_batches(fd)))
    _report(settings, plan, seeding)
    return Exit.USAGE if seeding.invalid else Exit.DONE


@contextmanager
def _open(file: str) -> Iterator[int]:
    """Open the file and yield its descriptor."""
    if file == STDIN:
        yield 0
        return
    try:
        fd = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)


async def _lines_of(urls: list[str]) -> AsyncIterator[list[NumberedLine]]:
    yield [(i, SeedLine(url)) for i, url in enumerate(urls, 1)]


def _default_resource(plan: Plan, lines_may_name_it: bool) -> str:
    from scrapeq.inspect.preview_task import only_resource

    try:
        return only_resource(plan)
    except UsageError:
        if lines_may_name_it:
            return ""
        raise


@dataclass
class Seeding:
    """
    Pushes seed lines into a queue, and counts what came of them.

    Args:
        plan: The plan of the queue.
        defaults: Resource, priority and delay of lines that do not have their own.
        source: Where the lines come from, for messages.
    """

    plan: Plan
    defaults: SeedLine
    source: str
    outcomes: Counter[str] = field(default_factory=Counter)
    invalid: int = 0

    async def push_all(self, queue: Queue, client: Any, batches: AsyncIterator[list[NumberedLine]]) -> None:
        """Push all batches. Raises StoreError, QueueFull; what was pushed before the error stays in the queue."""
        from scrapeq.resource import TaskBuilder
        from scrapeq.supervise.run_state import RunState, RunWatch
        from scrapeq.supervise.schedules import with_demo_address
        from scrapeq.wiring import cursor_store_of, group_function

        store = cursor_store_of(client, queue)
        with suppress(
            UsageError
        ):  # without a base URL each seed is refused by itself, but URLs can be pushed
            self.plan = await with_demo_address(self.plan, queue, client)
        builder = TaskBuilder(self.plan, group_function(self.plan))
        state = RunState(client, queue)
        await state.check_owner(self.plan.file)
        watch = RunWatch(state, queue)
        await watch.check()
        try:
            async for batch in batches:
                starts: list[tuple[int, NewTask | IncrementalStart]] = []
                for number, line in batch:
                    try:
                        starts.append((number, self._start(builder, line)))
                    except ScrapeqError as error:
                        self._reject(number, error)
                tasks = await self._build(store, starts)
                for offset in range(0, len(tasks), BATCH):
                    await self._push(queue, tasks[offset : offset + BATCH])
                await watch.check()
        except ScrapeqError as error:
            if self.outcomes["pushed"]:
                added = counted(self.outcomes["pushed"], "task")
                error.add_note(f"{added} had been added before; seeding again does not add them twice")
            raise
        if self.invalid > INVALID_SHOWN:
            print_message(f"error: {self.source}: {count(self.invalid - INVALID_SHOWN)} more invalid lines")

    async def _build(
        self, store: CursorStore, starts: list[tuple[int, NewTask | IncrementalStart]]
    ) -> list[tuple[int, NewTask]]:
        """Return the tasks; those of incremental resources continue at their stored cursors."""
        from scrapeq.protocols import IncrementalStart

        keys = [start.state_key for _, start in starts if isinstance(start, IncrementalStart)]
        cursors = iter(await store.get_many(keys))
        tasks: list[tuple[int, NewTask]] = []
        for number, start in starts:
            try:
                task = start.build(next(cursors)) if isinstance(start, IncrementalStart) else start
                if task is None:
                    raise UsageError(NULL_IN_PATH)
                tasks.append((number, task))
            except ScrapeqError as error:
                self._reject(number, error)
        return tasks

    def _start(self, builder: TaskBuilder, line: SeedLine | str) -> NewTask | IncrementalStart:
        """Return the task of a line, or its start if it depends on a cursor. Raises UsageError."""
        if isinstance(line, str):
            raise UsageError(line)
        name = line.resource or self.defaults.resource
        if not name:
            raise UsageError(
                "several resources could read the response; give --resource NAME or the key resource"
            )
        resource, now_s = builder.resource(name), time.time()
        priority = self.defaults.priority if line.priority is None else line.priority
        priority = now_s if priority is None else priority
        delay_s = (self.defaults.delay_s if line.delay_s is None else line.delay_s) or 0.0
        if isinstance(line.seed, str):
            return builder.from_url(resource, line.seed, priority, delay_s)
        if self.plan.client.base_url.startswith("demo:"):
            raise UsageError(
                "the sample API (demo://) has a URL only once a run has started it; use scrapeq run first"
            )
        start = builder.seed_start(resource, line.seed, priority, delay_s, now_s)
        if start is None:
            raise UsageError(f"{name}: {NULL_IN_PATH}")
        return start

    def _reject(self, number: int, error: ScrapeqError) -> None:
        self.invalid += 1
        if self.invalid <= INVALID_SHOWN:
            print_message(f"error: {self.source}, line {number}: {safe(str(error))}")

    async def _push(self, queue: Queue, batch: list[tuple[int, NewTask]]) -> None:
        try:
            self.outcomes.update(await _push_batch(queue, [task for _, task in batch]))
        except UsageError as error:
            if len(batch) == 1:
                self._reject(batch[0][0], error)
                return
            for one in batch:  # the queue refuses a batch as a whole, so find the invalid tasks in it
                await self._push(queue, [one])


async def _push_batch(queue: Queue, tasks: list[NewTask]) -> list[str]:
    """Return the outcomes of a push; tell the user if it takes long."""
    import asyncio

    pushing = asyncio.ensure_future(queue.push_many(tasks))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(pushing), SLOW_PUSH_S)
    if not pushing.done():
        print_message("waiting: the queue is full or the store is slow (a run makes room; Ctrl-C gives up)")
    return [one.outcome for one in await pushing]


def _report(settings: Settings, plan: Plan, seeding: Seeding) -> None:
    outcomes, invalid = seeding.outcomes, seeding.invalid
    new, duplicates, dead = outcomes["pushed"], outcomes["duplicate"], outcomes["dead"]
    if settings.json:
        fields = {"queue": plan.name, "new": new, "duplicates": duplicates, "dead": dead, "junk": invalid}
        settings.print_json(fields)
        return
    if settings.verbosity == "quiet":
        return
    text = f"{plan.name}: {counted(new, 'new task')}"
    text += f", {counted(duplicates, 'duplicate')}" if duplicates else ""
    text += f", {counted(dead, 'existing dead letter')} (see scrapeq dead redrive)" if dead else ""
    text += f", {counted(invalid, 'invalid line')}" if invalid else ""
    print(text)
