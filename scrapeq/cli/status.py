"""The verb `status`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.formatting import clock, count, counted, limit_name, rate, safe, span, table
from scrapeq.cli.open_queue import width, with_store
from scrapeq.cli.settings import Settings
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.plan import Plan
    from scrapeq.queue import Counts, LimitState, Queue
    from scrapeq.supervise.run_state import RunRecord

WATCH_S = 2.0
STATES = ("ready", "delayed", "leased", "dead")
LIMITS_SHOWN = 20
DUE_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command(rich_help_panel="Watch")(status)


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """How a queue stands."""

    plan: Plan
    counts: Counts
    limits: list[LimitState]
    run: RunRecord
    stats: dict[str, float]
    store: str
    due_s: dict[str, float]  # when each schedule is due next, Unix seconds


def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
) -> int:
    """
    Show how the scrape stands: tasks, limits, the run, the store. It works with and without a run.

    \b
        scrapeq status --json
    """
    settings: Settings = ctx.obj
    plan = settings.plan(credentials=False)

    async def show(queue: Queue, client: Any) -> None:
        import asyncio

        while True:
            queue_status = await _queue_status(plan, queue, client)
            if settings.json:
                settings.print_json(_as_json(queue_status))
            else:
                print("\n".join(_as_text(queue_status)))
            if not watch:
                return
            if not settings.json:
                print()
            sys.stdout.flush()
            await asyncio.sleep(WATCH_S)

    with_store(plan, show)
    return Exit.DONE


async def _queue_status(plan: Plan, queue: Queue, client: Any) -> QueueStatus:
    from scrapeq.queue.connect import redact_url
    from scrapeq.supervise.run_state import RunState
    from scrapeq.supervise.schedules import due_times_of, schedules_of

    known = await due_times_of(queue, client).all() if schedules_of(plan) else {}
    due_s = {name: known[name].due_s for name in schedules_of(plan) if name in known}
    state = RunState(client, queue)
    run, stats = await state.read(), await state.stats()
    store = redact_url(plan.redis.url)
    if store == "embedded":
        store = f"embedded in {FOLDER}, {_holder()}"
    return QueueStatus(plan, await queue.counts(), await queue.limit_states(), run, stats, store, due_s)


def _holder() -> str:
    """Whose the embedded store is now."""
    from scrapeq.store.embedded import read_lock

    lock = read_lock(FOLDER)
    if lock.get("visit") or not lock.get("pid"):
        return "no run goes on"
    return f"held by the run of process {lock['pid']}"


def _as_json(queue_status: QueueStatus) -> dict[str, Any]:
    from scrapeq.inspect.limit_report import state_word

    counts = asdict(queue_status.counts)
    return {
        "queue": queue_status.plan.name,
        "file": queue_status.plan.file,
        "store": queue_status.store,
        "run": asdict(queue_status.run),
        "stats": queue_status.stats,
        **{state: counts[state] for state in STATES},
        "left": queue_status.counts.live,
        "done": queue_status.counts.done,
        "paused": queue_status.counts.paused,
        "next_event_s": queue_status.counts.next_event_s,
        "due_s": queue_status.due_s,
        "counters": {
            name: counts[name]
            for name in (
                "pushed",
                "granted",
                "refused",
                "expired",
                "died",
                "retried",
                "released",
                "duplicates",
                "cancelled",
                "answered",
            )
        },
        "limits": [{**asdict(limit), "state": state_word(limit)} for limit in queue_status.limits],
    }


def _as_text(queue_status: QueueStatus) -> list[str]:
    counts, run, now_s = queue_status.counts, queue_status.run, time.time()
    lines = [f"{queue_status.plan.name}  {_headline(queue_status)}", ""]
    lines.append(
        "  "
        + "  ".join(f"{state} {count(getattr(counts, state))}" for state in STATES)
        + f"  done {count(queue_status.stats.get('done', counts.done))}"
    )
    if counts.ready + counts.leased == 0 and counts.delayed and counts.next_event_s is not None:
        lines.append(f"  the next task is due in {span(counts.next_event_s)}")
    if run.id:
        asked = queue_status.stats.get("requests")
        word = "unfinished" if run.state == "running" else run.state
        parts = [f"run {run.id} {word}", f"begun {clock(run.started_s)} UTC" if run.started_s else ""]
        parts.append(
            f"{count(asked)} requests, {count(queue_status.stats.get('refused', 0))} refused" if asked else ""
        )
        parts.append(f"{count(queue_status.stats['items'])} items" if queue_status.stats.get("items") else "")
        lines.append("  " + ", ".join(part for part in parts if part))
    for name, due_s in sorted(queue_status.due_s.items(), key=lambda one: one[1])[:DUE_SHOWN]:
        missed = "" if due_s > now_s else ", as soon as a scheduler runs"
        lines.append(f"  {safe(name)} is due at {clock(due_s)} UTC{missed}")
    lines.append(f"  store {queue_status.store}")
    if queue_status.limits:
        lines.append("")
        lines += _limit_lines(queue_status.limits, now_s)
    if counts.dead:
        lines += ["", f"{counted(counts.dead, 'dead letter')}: scrapeq dead"]
    return lines


def _headline(queue_status: QueueStatus) -> str:
    from scrapeq.inspect.limit_report import state_word

    counts = queue_status.counts
    if counts.paused:
        return "PAUSED"
    if counts.live == 0:
        if queue_status.run.state == "running":
            return "nothing left to do"
        return "finished" if queue_status.run.state == "finished" else "empty: scrapeq run FILE fills it"
    closed = [limit for limit in queue_status.limits if state_word(limit) != "open"]
    held = f", {limit_name(closed[0].name)} is {state_word(closed[0])}" if closed else ""
    return f"{counted(counts.live, 'task')} left{held}"


def _limit_lines(limits: list[LimitState], now_s: float) -> list[str]:
    from scrapeq.inspect.limit_report import state_word

    rows = [("LIMIT", "STATE", "OPENS", "IN FLIGHT", "TOLD")]
    ordered = sorted(limits, key=lambda limit: (state_word(limit) == "open", limit.name))
    for limit in ordered[:LIMITS_SHOWN]:
        if limit.opens_s == 0:
            opens = "now"
        elif limit.opens_s is None:
            opens = "when resumed" if limit.paused else "at an answer"
        else:
            opens = f"{clock(now_s + limit.opens_s)} in {span(limit.opens_s)}"
        told = ""
        if limit.remaining is not None:
            told = f"{rate(limit.remaining)} left, resets in {span(limit.reset_s)}"
        rows.append((limit_name(limit.name), state_word(limit), opens, count(limit.in_flight), told))
    lines = table(rows, width())
    if len(limits) > LIMITS_SHOWN:
        lines.append(f"{count(len(limits) - LIMITS_SHOWN)} more: scrapeq limits")
    return lines
