"""The verb that adds tasks: seed."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import say
from scrapeq.cli.formatting import count, counted, safe
from scrapeq.cli.open_queue import with_store
from scrapeq.cli.options import check_resource, read_duration, read_priority
from scrapeq.cli.seed_lines import Numbered, SeedLine, address, read_batches
from scrapeq.cli.settings import Settings
from scrapeq.errors import ScrapeqError, UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.plan import Plan
    from scrapeq.protocols import CursorStore, IncrementalStart
    from scrapeq.queue import Queue
    from scrapeq.resource import TaskBuilder
    from scrapeq.task import NewTask

PIECE = 1000  # tasks pushed in one call
FULL_NOTE_S = 3.0  # a push that takes longer waits for room
JUNK_SHOWN = 100  # of more junk lines only the number is said
STDIN = "-"
NOTHING_TO_ASK = "this seed leaves a null in the path"


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command(rich_help_panel="Run")(seed)


def seed(
    ctx: typer.Context,
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="URL", help="Addresses, asked for as they are.")
    ] = None,
    file: Annotated[
        str, typer.Option("-f", "--file", metavar="FILE", help="A line a task; - is standard input.")
    ] = "",
    resource: Annotated[
        str,
        typer.Option(
            "--resource",
            metavar="NAME",
            help="Which resource reads the answers; the only one if there is one.",
        ),
    ] = "",
    priority: Annotated[
        str,
        typer.Option(
            "--priority", metavar="N", help="Any number, or a time; higher first. Else the time now."
        ),
    ] = "",
    delay: Annotated[str, typer.Option("--delay", metavar="10m", help="Not before so long.")] = "",
) -> int:
    """
    Add tasks to the queue, while a run goes on or before one. What is in the queue already is not added twice.

    \b
        scrapeq seed -f repositories.jsonl --resource issues --priority 100

    A line of FILE is an address, or a JSON object: a seed's values as under seeds: in the YAML, or an envelope with
    url or seed, and resource, priority, delay. Blank lines and # comments are passed over. A line that makes no
    sense is named by its number; the others are added, and the exit code is 2.
    """
    settings: Settings = ctx.obj
    if urls and list(urls) == [STDIN]:
        urls, file = None, file or STDIN
    if bool(urls) == bool(file):
        raise UsageError("seed what? addresses, or -f FILE (- is standard input)")
    for url in urls or ():
        address(url)  # a wrong one is refused before anything is added
    plan = settings.plan()
    rules = SeedLine(
        "",
        resource or _only_resource(plan, bool(file)),
        read_priority(priority, "--priority") if priority else None,
        read_duration(delay, "--delay") if delay else None,
    )
    if rules.resource:
        check_resource([one.name for one in plan.resources], rules.resource, "--resource")
    source = "standard input" if file == STDIN else file or "the command line"
    seeding = Seeding(plan, rules, source)
    if urls:
        batches = _of(urls)
        with_store(plan, lambda queue, client: seeding.push_all(queue, client, batches))
    else:
        with _opened(file) as fd:
            with_store(plan, lambda queue, client: seeding.push_all(queue, client, read_batches(fd)))
    _report(settings, plan, seeding)
    return Exit.USAGE if seeding.junk else Exit.DONE


@contextmanager
def _opened(file: str) -> Iterator[int]:
    """The file's descriptor."""
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


async def _of(urls: list[str]) -> AsyncIterator[list[Numbered]]:
    yield [(i, SeedLine(url)) for i, url in enumerate(urls, 1)]


def _only_resource(plan: Plan, each_may_say: bool) -> str:
    able = [one.name for one in plan.resources if one.endpoint is not None]
    if len(able) == 1:
        return able[0]
    if each_may_say:
        return ""
    raise UsageError(f"which resource reads the answer? --resource, one of {', '.join(able)}")


@dataclass
class Seeding:
    """
    Lines on their way into the queue.

    Args:
        plan: Whose queue it is.
        rules: What holds for lines that do not say otherwise.
        source: Where the lines come from, for messages.
    """

    plan: Plan
    rules: SeedLine
    source: str
    outcomes: Counter[str] = field(default_factory=Counter)
    junk: int = 0

    async def push_all(self, queue: Queue, client: Any, batches: AsyncIterator[list[Numbered]]) -> None:
        """Push each batch, in pieces. Raises StoreError, QueueFull; what was pushed before stays."""
        from scrapeq.resource import TaskBuilder
        from scrapeq.supervise.schedules import with_demo_address
        from scrapeq.wiring import cursor_store_of, group_function

        states = cursor_store_of(client, queue)
        with suppress(UsageError):  # without an address seeds are refused one by one, addresses are not
            self.plan = await with_demo_address(self.plan, queue, client)
        builder = TaskBuilder(self.plan, group_function(self.plan))
        try:
            async for batch in batches:
                firsts: list[tuple[int, NewTask | IncrementalStart]] = []
                for number, wanted in batch:
                    try:
                        firsts.append((number, self._first(builder, wanted)))
                    except ScrapeqError as error:
                        self._refuse(number, error)
                tasks = await self._built(states, firsts)
                for start in range(0, len(tasks), PIECE):
                    await self._push(queue, tasks[start : start + PIECE])
        except ScrapeqError as error:
            if self.outcomes["pushed"]:
                added = counted(self.outcomes["pushed"], "task")
                error.add_note(f"{added} had been added; seeding all again adds none of them twice")
            raise
        if self.junk > JUNK_SHOWN:
            say(f"error: {self.source}: {count(self.junk - JUNK_SHOWN)} more lines make no sense")

    async def _built(
        self, states: CursorStore, firsts: list[tuple[int, NewTask | IncrementalStart]]
    ) -> list[tuple[int, NewTask]]:
        """Their tasks: a walk's begins where the last one ended."""
        from scrapeq.protocols import IncrementalStart

        walks = [first.state_key for _, first in firsts if isinstance(first, IncrementalStart)]
        kept = iter(await states.get_many(walks))
        tasks: list[tuple[int, NewTask]] = []
        for number, first in firsts:
            try:
                task = first.build(next(kept)) if isinstance(first, IncrementalStart) else first
                if task is None:
                    raise UsageError(NOTHING_TO_ASK)
                tasks.append((number, task))
            except ScrapeqError as error:
                self._refuse(number, error)
        return tasks

    def _first(self, builder: TaskBuilder, wanted: SeedLine | str) -> NewTask | IncrementalStart:
        if isinstance(wanted, str):
            raise UsageError(wanted)
        name = wanted.resource or self.rules.resource
        if not name:
            raise UsageError("which resource reads the answer? --resource NAME, or a member resource")
        kind, now_s = builder.resource(name), time.time()
        rank = self.rules.priority if wanted.priority is None else wanted.priority
        rank = now_s if rank is None else rank
        delay_s = (self.rules.delay_s if wanted.delay_s is None else wanted.delay_s) or 0.0
        if isinstance(wanted.seed, str):
            return builder.at_url(kind, wanted.seed, rank, delay_s)
        if self.plan.client.base_url.startswith("demo:"):
            raise UsageError("the sample API (demo://) has an address only once a run has begun; run first")
        first = builder.seeded_start(kind, wanted.seed, rank, delay_s, now_s)
        if first is None:
            raise UsageError(f"{NOTHING_TO_ASK} of {name}")
        return first

    def _refuse(self, number: int, error: ScrapeqError) -> None:
        self.junk += 1
        if self.junk <= JUNK_SHOWN:
            say(f"error: {self.source}, line {number}: {safe(str(error))}")

    async def _push(self, queue: Queue, piece: list[tuple[int, NewTask]]) -> None:
        try:
            self.outcomes.update(await _pushed(queue, [task for _, task in piece]))
        except UsageError as error:  # a payload that the queue refuses must not take its neighbours with it
            if len(piece) == 1:
                self._refuse(piece[0][0], error)
                return
            for one in piece:
                await self._push(queue, [one])


async def _pushed(queue: Queue, tasks: list[NewTask]) -> list[str]:
    """The outcomes of a push; one that has to wait for room says so."""
    import asyncio

    pushing = asyncio.ensure_future(queue.push_many(tasks))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(pushing), FULL_NOTE_S)
    if not pushing.done():
        say("the queue is full or the store slow: waiting (a run makes room; Ctrl-C gives up)")
    return [one.outcome for one in await pushing]


def _report(settings: Settings, plan: Plan, seeding: Seeding) -> None:
    outcomes, junk = seeding.outcomes, seeding.junk
    new, twice, dead = outcomes["pushed"], outcomes["duplicate"], outcomes["dead"]
    if settings.json:
        settings.print_json({"queue": plan.name, "new": new, "duplicates": twice, "dead": dead, "junk": junk})
        return
    if settings.verbosity == "quiet":
        return
    said = f"{plan.name}: {counted(new, 'new task')}"
    said += f", {counted(twice, 'duplicate')}" if twice else ""
    said += f", {count(dead)} already dead letters (scrapeq dead redrive)" if dead else ""
    said += f", {counted(junk, 'line that makes', 'lines that make')} no sense" if junk else ""
    print(said)
