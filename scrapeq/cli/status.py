"""The command `status`: show the tasks, limits, run and store of a queue."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.formatting import clock, count, counted, limit_name, rate, safe, span, table
from scrapeq.cli.queue_access import terminal_width, with_store
from scrapeq.cli.settings import Settings
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.plan import Plan
    from scrapeq.queue import Counts, LimitState, Queue
    from scrapeq.supervise.run_state import RunRecord

WATCH_EVERY_S = 2.0
STATES = ("ready", "delayed", "leased", "dead")
COUNTERS = (
    "pushed", "granted", "refused", "expired", "died", "retried", "released", "duplicates", "cancelled", "answered",
)  # fmt: skip
LIMITS_SHOWN = 20
SCHEDULES_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Watch")(status)


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The state of a queue at one moment."""

    plan: Plan
    counts: Counts
    limits: list[LimitState]
    run: RunRecord
    stats: dict[str, float]
    store: str
    due_s: dict[str, float]  # when each schedule is due next, Unix seconds


def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
) -> int:
    """
    Show tasks, limits, the run and the store, during a run or without one.

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
            await asyncio.sleep(WATCH_EVERY_S)

    with_store(plan, show)
    return Exit.DONE


async def _queue_status(plan: Plan, queue: Queue, client: Any) -> QueueStatus:
    from scrapeq.queue.connect import redact_url
    from scrapeq.supervise.run_state import RunState
    from scrapeq.supervise.schedules import due_times_of, schedules_of

    due_times = await due_times_of(queue, client).all() if schedules_of(plan) else {}
    due_s = {name: due_times[name].due_s for name in schedules_of(plan) if name in due_times}
    state = RunState(client, queue)
    run, stats = await state.read(), await state.stats()
    store = redact_url(plan.redis.url)
    if store == "embedded":
        store = f"embedded in {FOLDER}, {_store_user()}"
    return QueueStatus(plan, await queue.counts(), await queue.limit_states(), run, stats, store, due_s)


def _store_user() -> str:
    """Return which run uses the embedded store, as text."""
    from scrapeq.store.embedded import read_lock

    lock = read_lock(FOLDER)
    if lock.get("visit") or not lock.get("pid"):
        return "no active run"
    return f"in use by the run of process {lock['pid']}"


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
        "counters": {name: counts[name] for name in COUNTERS},
        "limits": [{**asdict(limit), "state": state_word(limit)} for limit in queue_status.limits],
    }


def _as_text(queue_status: QueueStatus) -> list[str]:
    counts, stats, now_s = queue_status.counts, queue_status.stats, time.time()
    lines = [f"{queue_status.plan.name}  {_headline(queue_status)}", ""]
    lines.append(
        "  "
        + "  ".join(f"{state} {count(getattr(counts, state))}" for state in STATES)
        + f"  done {count(stats.get('done', counts.done))}"
    )
    if counts.ready + counts.leased == 0 and counts.delayed and counts.next_event_s is not None:
        lines.append(f"  next task due in {span(counts.next_event_s)}")
    if queue_status.run.id:
        lines.append(f"  {_run_text(queue_status.run, stats)}")
    for name, due_s in sorted(queue_status.due_s.items(), key=lambda one: one[1])[:SCHEDULES_SHOWN]:
        overdue = "" if due_s > now_s else ", overdue: no scheduler is running"
        lines.append(f"  {safe(name)} due at {clock(due_s)} UTC{overdue}")
    lines.append(f"  store {queue_status.store}")
    if queue_status.limits:
        lines.append("")
        lines += _limit_lines(queue_status.limits, now_s)
    if counts.dead:
        lines += ["", f"{counted(counts.dead, 'dead letter')}: scrapeq dead"]
    return lines


def _run_text(run: RunRecord, stats: dict[str, float]) -> str:
    parts = [f"run {run.id} {'unfinished' if run.state == 'running' else run.state}"]
    if run.started_s:
        parts.append(f"started {clock(run.started_s)} UTC")
    if stats.get("requests"):
        parts.append(f"{count(stats['requests'])} requests, {count(stats.get('refused', 0))} refused")
    if stats.get("items"):
        parts.append(f"{count(stats['items'])} items")
    return ", ".join(parts)


def _headline(queue_status: QueueStatus) -> str:
    from scrapeq.inspect.limit_report import state_word

    counts = queue_status.counts
    if counts.paused:
        return "PAUSED"
    if counts.live == 0:
        if queue_status.run.state == "running":
            return "no tasks left"
        return "finished" if queue_status.run.state == "finished" else "empty; scrapeq run FILE fills it"
    closed = [limit for limit in queue_status.limits if state_word(limit) != "open"]
    limit_text = f", {limit_name(closed[0].name)} is {state_word(closed[0])}" if closed else ""
    return f"{counted(counts.live, 'task')} left{limit_text}"


def _limit_lines(limits: list[LimitState], now_s: float) -> list[str]:
    from scrapeq.inspect.limit_report import state_word

    rows = [("LIMIT", "STATE", "OPENS", "IN FLIGHT", "REPORTED")]
    ordered = sorted(limits, key=lambda limit: (state_word(limit) == "open", limit.name))
    for limit in ordered[:LIMITS_SHOWN]:
        reported = ""
        if limit.remaining is not None:
            reported = f"{rate(limit.remaining)} left, resets in {span(limit.reset_s)}"
        opens = opens_text(limit, now_s)
        rows.append((limit_name(limit.name), state_word(limit), opens, count(limit.in_flight), reported))
    lines = table(rows, terminal_width())
    if len(limits) > LIMITS_SHOWN:
        lines.append(f"{count(len(limits) - LIMITS_SHOWN)} more: scrapeq limits")
    return lines


def opens_text(limit: LimitState, now_s: float) -> str:
    """Return when a limit opens: `now`, `14:36:00 in 4m34s`, or the event that opens it."""
    if limit.opens_s == 0:
        return "now"
    if limit.opens_s is None:
        return "when resumed" if limit.paused else "at a response"
    return f"{clock(now_s + limit.opens_s)} in {span(limit.opens_s)}"
