"""The verb `scheduler`."""

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
    """Add this verb."""
    app.command(rich_help_panel="Run")(scheduler)


def scheduler(
    ctx: typer.Context,
    queue: Annotated[
        str, typer.Option("--queue", metavar="NAME", help="A queue by its name, without a file.")
    ] = "",
) -> int:
    """
    Keep the schedules of a file, and do what time brings to a queue that nobody pops. Any number may run; one at a
    time does the work.

    \b
        scrapeq --redis redis://queue.internal scheduler --queue api
    """
    settings: Settings = ctx.obj
    plan = _queue_plan(settings, queue) if queue else settings.plan()
    settings.note(f"scheduling {plan.name} until Ctrl-C")
    import asyncio

    return asyncio.run(_schedule(plan, settings.note))


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
