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
class Standing:
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
            standing = await _standing(plan, queue, client)
            if settings.json:
                settings.print_json(_as_json(standing))
            else:
                print("\n".join(_as_text(standing)))
            if not watch:
                return
            if not settings.json:
                print()
            sys.stdout.flush()
            await asyncio.sleep(WATCH_S)

    with_store(plan, show)
    return Exit.DONE


async def _standing(plan: Plan, queue: Queue, client: Any) -> Standing:
    from scrapeq.queue.connect import redact_url
    from scrapeq.supervise.run_state import RunState
    from scrapeq.supervise.schedules import dues_of, schedules_of

    known = await dues_of(queue, client).all() if schedules_of(plan) else {}
    due_s = {name: known[name].due_s for name in schedules_of(plan) if name in known}
    state = RunState(client, queue)
    run, stats = await state.read(), await state.stats()
    store = redact_url(plan.redis.url)
    if store == "embedded":
        store = f"embedded in {FOLDER}, {_holder()}"
    return Standing(plan, await queue.counts(), await queue.limit_states(), run, stats, store, due_s)


def _holder() -> str:
    """Whose the embedded store is now."""
    from scrapeq.store.embedded import read_lock

    lock = read_lock(FOLDER)
    if lock.get("visit") or not lock.get("pid"):
        return "no run goes on"
    return f"held by the run of process {lock['pid']}"


def _as_json(standing: Standing) -> dict[str, Any]:
    from scrapeq.inspect.limit_report import state_word

    counts = asdict(standing.counts)
    return {
        "queue": standing.plan.name,
        "file": standing.plan.file,
        "store": standing.store,
        "run": asdict(standing.run),
        "stats": standing.stats,
        **{state: counts[state] for state in STATES},
        "left": standing.counts.live,
        "done": standing.counts.done,
        "paused": standing.counts.paused,
        "next_event_s": standing.counts.next_event_s,
        "due_s": standing.due_s,
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
        "limits": [{**asdict(limit), "state": state_word(limit)} for limit in standing.limits],
    }


def _as_text(standing: Standing) -> list[str]:
    counts, run, now_s = standing.counts, standing.run, time.time()
    lines = [f"{standing.plan.name}  {_verdict(standing)}", ""]
    lines.append(
        "  "
        + "  ".join(f"{state} {count(getattr(counts, state))}" for state in STATES)
        + f"  done {count(standing.stats.get('done', counts.done))}"
    )
    if counts.ready + counts.leased == 0 and counts.delayed and counts.next_event_s is not None:
        lines.append(f"  the next task is due in {span(counts.next_event_s)}")
    if run.id:
        asked = standing.stats.get("requests")
        word = "unfinished" if run.state == "running" else run.state
        parts = [f"run {run.id} {word}", f"begun {clock(run.started_s)} UTC" if run.started_s else ""]
        parts.append(
            f"{count(asked)} requests, {count(standing.stats.get('refused', 0))} refused" if asked else ""
        )
        parts.append(f"{count(standing.stats['items'])} items" if standing.stats.get("items") else "")
        lines.append("  " + ", ".join(part for part in parts if part))
    for name, due_s in sorted(standing.due_s.items(), key=lambda one: one[1])[:DUE_SHOWN]:
        missed = "" if due_s > now_s else ", as soon as a scheduler runs"
        lines.append(f"  {safe(name)} is due at {clock(due_s)} UTC{missed}")
    lines.append(f"  store {standing.store}")
    if standing.limits:
        lines.append("")
        lines += _limit_lines(standing.limits, now_s)
    if counts.dead:
        lines += ["", f"{counted(counts.dead, 'dead letter')}: scrapeq dead"]
    return lines


def _verdict(standing: Standing) -> str:
    from scrapeq.inspect.limit_report import state_word

    counts = standing.counts
    if counts.paused:
        return "PAUSED"
    if counts.live == 0:
        if standing.run.state == "running":
            return "nothing left to do"
        return "finished" if standing.run.state == "finished" else "empty: scrapeq run FILE fills it"
    closed = [limit for limit in standing.limits if state_word(limit) != "open"]
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
