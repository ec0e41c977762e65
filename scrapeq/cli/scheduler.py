"""The command `scheduler`: start scheduled runs and keep a queue in order without workers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.plan import Plan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Run")(scheduler)


def scheduler(
    ctx: typer.Context,
    queue: Annotated[
        str, typer.Option("--queue", metavar="NAME", help="Serve this queue, without a configuration file.")
    ] = "",
) -> int:
    """
    Start scheduled runs on time, and keep a queue in order while no worker pops from it.

    \b
        scrapeq --redis redis://queue.internal scheduler --queue api

    Any number may run for one queue; one at a time is the leader and does the work. It runs until Ctrl-C.

    Exit codes: 0 stopped by a signal, 130 stopped at once by a second signal.
    """
    settings: Settings = ctx.obj
    plan = _queue_plan(settings, queue) if queue else settings.plan()
    settings.note(f"scheduling {plan.name} until Ctrl-C")
    import asyncio

    code = asyncio.run(_schedule(plan, settings.note))
    if settings.json:
        settings.print_json({"queue": plan.name, "exit": code})
    return code


def _queue_plan(settings: Settings, name: str) -> Plan:
    from scrapeq.plan import Plan, Redis

    if settings.config:
        raise UsageError("give -c FILE or --queue NAME, not both")
    return Plan(name, "", redis=Redis(url=settings.redis) if settings.redis else Redis())


async def _schedule(plan: Plan, event: Callable[[str], None]) -> int:
    import asyncio

    from scrapeq.supervise.scheduler_process import run_scheduler

    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            sys.exit(Exit.SECOND_SIGNAL)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return await run_scheduler(plan, FOLDER, stop, event)
