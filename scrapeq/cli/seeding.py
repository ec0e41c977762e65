"""The verb that adds tasks: seed."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from scrapeq.cli.options import read_duration, read_priority
from scrapeq.cli.outcome import Exit, say
from scrapeq.cli.seed_lines import Wanted, address, read_lines
from scrapeq.cli.settings import Settings
from scrapeq.cli.visit import with_store
from scrapeq.cli.wording import count, counted, safe
from scrapeq.errors import ScrapeqError, StoreError, UsageError

if TYPE_CHECKING:
    from scrapeq.plan import Plan
    from scrapeq.queue import Queue
    from scrapeq.task import NewTask

PIECE = 1000  # tasks pushed in one call
FULL_NOTE_S = 3.0  # a push that takes longer waits for room
JUNK_SHOWN = 100  # of more junk lines only the number is said
STDIN = "-"

Numbered = tuple[int, Wanted | str]


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
    if bool(urls) == bool(file):
        raise UsageError("seed what? addresses, or -f FILE (- is standard input)")
    plan = settings.plan()
    rules = Wanted(
        "",
        resource or _only_resource(plan, bool(file)),
        read_priority(priority, "--priority") if priority else None,
        read_duration(delay, "--delay") if delay else None,
    )
    if rules.resource:
        _check_resource(plan, rules.resource)
    with _lines(urls or [], file) as lines:
        outcomes, junk = with_store(plan, lambda queue, client: _push(plan, queue, client, rules, lines))
    _report(settings, plan, outcomes, junk)
    return Exit.USAGE if junk else Exit.DONE


@contextmanager
def _lines(urls: list[str], file: str) -> Iterator[Iterable[Numbered]]:
    """What to seed, numbered; an address on the command line is refused at once, before anything is added."""
    if urls:
        yield [(i, Wanted(address(url))) for i, url in enumerate(urls, 1)]
    elif file == STDIN:
        yield read_lines(sys.stdin.buffer)
    else:
        try:
            opened: BinaryIO = open(file, "rb")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
        with opened:
            yield read_lines(opened)


def _only_resource(plan: Plan, each_may_say: bool) -> str:
    able = [one.name for one in plan.resources if one.endpoint is not None]
    if len(able) == 1:
        return able[0]
    if each_may_say:
        return ""
    raise UsageError(f"which resource reads the answer? --resource, one of {', '.join(able)}")


def _check_resource(plan: Plan, name: str) -> None:
    known = [one.name for one in plan.resources]
    if name not in known:
        from scrapeq.expression import did_you_mean

        near = did_you_mean(name, known)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}"
        raise UsageError(f"--resource: no resource is called {name!r}; {hint}")


async def _push(
    plan: Plan, queue: Queue, client: Any, rules: Wanted, lines: Iterable[Numbered]
) -> tuple[Counter[str], int]:
    """Push in pieces; the outcomes, and how many lines were junk."""
    from scrapeq.resource import seed_task
    from scrapeq.supervise.assemble import group_function

    plan = await _with_address(plan, queue, client)
    group_of = group_function(plan)
    outcomes: Counter[str] = Counter()
    piece: list[NewTask] = []
    junk, number = 0, 0
    for number, wanted in lines:
        try:
            if isinstance(wanted, str):
                raise UsageError(wanted)
            name = wanted.resource or rules.resource
            if not name:
                raise UsageError("which resource reads the answer? --resource NAME, or a member resource")
            if not isinstance(wanted.seed, str) and plan.client.base_url.startswith("demo:"):
                raise UsageError(
                    "the sample API (demo://) has an address only once a run has begun; run first"
                )
            rank = rules.priority if wanted.priority is None else wanted.priority
            delay_s = rules.delay_s if wanted.delay_s is None else wanted.delay_s
            piece.append(seed_task(plan, name, wanted.seed, rank, delay_s or 0.0, group_of, time.time()))
        except ScrapeqError as error:
            junk += 1
            if junk <= JUNK_SHOWN:
                say(f"line {number}: {safe(str(error))}")
        if len(piece) >= PIECE:
            await _push_piece(queue, piece, outcomes, number)
            piece = []
    if piece:
        await _push_piece(queue, piece, outcomes, number)
    if junk > JUNK_SHOWN:
        say(f"{count(junk - JUNK_SHOWN)} more lines make no sense")
    return outcomes, junk


async def _with_address(plan: Plan, queue: Queue, client: Any) -> Plan:
    """`demo://` as the address that the sample API has in the run that goes on."""
    if not plan.client.base_url.startswith("demo:"):
        return plan
    from scrapeq.supervise.run_state import RunState

    record = await RunState(client, queue).read()
    if not record.demo_port:
        return plan
    return replace(plan, client=replace(plan.client, base_url=f"http://127.0.0.1:{record.demo_port}/"))


async def _push_piece(queue: Queue, piece: list[NewTask], outcomes: Counter[str], number: int) -> None:
    import asyncio

    pushing = asyncio.ensure_future(queue.push_many(piece))
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pushing), FULL_NOTE_S)
        if not pushing.done():
            say("the queue is full or slow: waiting for room (a run makes it; seeding again is safe, too)")
        outcomes.update(one.outcome for one in await pushing)
    except (StoreError, ScrapeqError) as error:
        added = outcomes["pushed"]
        error.add_note(
            f"{counted(added, 'task')} of the lines before were added; seeding all again adds none twice"
        )
        raise
    except UnicodeEncodeError as error:
        raise UsageError(f"up to line {number}: {error}") from None


def _report(settings: Settings, plan: Plan, outcomes: Counter[str], junk: int) -> None:
    new, twice, dead = outcomes["pushed"], outcomes["duplicate"], outcomes["dead"]
    if settings.json:
        settings.print_json({"queue": plan.name, "new": new, "duplicates": twice, "dead": dead, "junk": junk})
        return
    if settings.verbosity == "quiet":
        return
    said = f"{plan.name}: {counted(new, 'new task')}"
    said += f", {counted(twice, 'duplicate')}" if twice else ""
    said += f", {count(dead)} already dead letters (scrapeq dead redrive)" if dead else ""
    said += f", {count(junk)} lines that make no sense" if junk else ""
    print(said)
