"""The command `plan`: estimate how long the work takes under its rate limits."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.formatting import clock, count, counted, limit_name, safe, span, table
from scrapeq.cli.limits import grant_text, read_rate
from scrapeq.cli.options import ConcurrencyOption, WorkersOption, check_resource, read_duration
from scrapeq.cli.queue_access import terminal_width, with_store
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.inspect.forecast_inputs import Assumption, Workload
    from scrapeq.limit import Limit
    from scrapeq.plan import Plan
    from scrapeq.queue import Queue
    from scrapeq.simulate import Forecast, LimitForecast

LIMITS_SHOWN = 20
DEFAULT_LATENCY = "300ms"
PERCENTS = (10, 50, 90)

_ASSUMPTION = re.compile(r"([^=]+)=(\d+(?:\.\d+)?)(?:/(page|record))?", re.ASCII)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Check")(plan)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A simulation: its inputs and its result."""

    plan: Plan
    workload: Workload
    limits: dict[str, Limit]
    forecast: Forecast


def plan(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Configuration file. Default: the file of -c.")
    ] = None,
    pages: Annotated[
        int | None,
        typer.Option("--pages", metavar="N", min=1, help="Pages of each paginated list. Default: 1."),
    ] = None,
    records: Annotated[
        float | None, typer.Option("--records", metavar="N", min=0, help="Records per page.")
    ] = None,
    assumptions: Annotated[
        list[str] | None,
        typer.Option("--assume", metavar="R=N", help="Requests of a resource: N, N/page or N/record."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=30/1m", help="Assume that this limit grants this rate."),
    ] = None,
    latency: Annotated[
        str, typer.Option("--latency", metavar="300ms", help="Time that a response takes.")
    ] = DEFAULT_LATENCY,
    workers: WorkersOption = None,
    concurrency: ConcurrencyOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start from the seeds, ignoring the tasks in the queue.")
    ] = False,
) -> int:
    """
    Estimate how long the work takes under its rate limits. It sends no request and changes nothing.

    \b
        scrapeq plan api.yaml --pages 40 --records 50 --assume comments=0.5/record

    The work is the tasks in the queue, with the limits as the store knows them; if nothing ran yet, it is the first
    pages of the seeds. How much follows from a response is unknown, so give --pages, --records and --assume; N/page and
    N/record count for each page or record of the parent resource. The output lists every assumption.
    """
    settings: Settings = ctx.obj
    overrides = {"run.workers": workers, "run.concurrency": concurrency}
    loaded = settings.load(
        settings.file(file), {key: value for key, value in overrides.items() if value is not None}
    )
    parsed = [_read_assumption(loaded, text) for text in assumptions or ()]
    latency_s = read_duration(latency, "--latency")
    workload, limits = _read_workload(loaded, fresh)
    assumed_limits = _assumed_limits(limits, limit or [])
    limits |= assumed_limits

    from scrapeq.inspect.forecast_inputs import apply_assumptions
    from scrapeq.simulate import simulate
    from scrapeq.wiring import pools_of

    apply_assumptions(loaded, workload, pages=pages, records=records, assumptions=parsed)
    slots = loaded.run.workers * loaded.run.concurrency
    states = [state for state in workload.limit_states if state.name.partition("|")[0] not in assumed_limits]
    forecast = simulate(
        workload.work, limits, slots=slots, latency_s=latency_s, states=states, pools=pools_of(loaded)
    )
    workload.assumed.append(
        f"a response takes {latency}; {counted(slots, 'concurrent request')}; no refusals"
    )
    workload.assumed += _unknown_rates(forecast, limits, workload)
    if loaded.queue.order != "strict":
        workload.assumed.append(
            f"order strict instead of {loaded.queue.order}, which does not change the total"
        )
    estimate = Estimate(loaded, workload, limits, forecast)
    if settings.json:
        settings.print_json(_as_json(estimate))
    else:
        print("\n".join(_as_text(estimate)))
    return Exit.DONE


def _read_workload(plan: Plan, fresh: bool) -> tuple[Workload, dict[str, Limit]]:
    """Return the work and the limits by name; manual settings in the store override the file."""
    from scrapeq.inspect.forecast_inputs import queued_work, seeded_work
    from scrapeq.limits.definitions import limits_of

    limits = limits_of(plan.rate_limits)
    nothing_ran = plan.redis.url == "embedded" and not (FOLDER / "store").exists()
    if not fresh and not nothing_ran:

        async def read(queue: Queue, _: Any) -> tuple[Workload | None, dict[str, Limit]]:
            return await queued_work(queue), await queue.definitions()

        workload, stored = with_store(plan, read, define=False)
        limits |= {name: one for name, one in stored.items() if one.version}
        if workload is not None:
            return workload, limits
    return seeded_work(plan, time.time()), limits


def _read_assumption(plan: Plan, text: str) -> Assumption:
    from scrapeq.inspect.forecast_inputs import Assumption

    found = _ASSUMPTION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--assume: expected RESOURCE=N, got {safe(text)!r}; "
            "for example comments=500, comments=20/page or comments=0.5/record"
        )
    check_resource([one.name for one in plan.resources], found[1], "--assume")
    return Assumption(found[1], float(found[2]), found[3] or "")  # type: ignore[arg-type]


def _assumed_limits(limits: dict[str, Limit], texts: list[str]) -> dict[str, Limit]:
    """Return the limits of `--limit core=30/1m` by name; several rates for one name must all grant."""
    assumed: dict[str, Limit] = {}
    for text in texts:
        name, equals, rate = text.partition("=")
        if not equals:
            raise UsageError(f"--limit: expected NAME=RATE, got {safe(text)!r}; for example core=30/1m")
        if name not in limits:
            raise UsageError(f"--limit: unknown limit {safe(name)!r}; known limits: {', '.join(limits)}")
        previous = assumed[name].rates if name in assumed else ()
        assumed[name] = replace(limits[name], rates=(*previous, read_rate(rate, 0)), learn=False)
    return assumed


def _unknown_rates(forecast: Forecast, limits: dict[str, Limit], workload: Workload) -> list[str]:
    """Return a line for each limit of the forecast without a known rate."""
    from scrapeq.inspect.limit_report import NO_DEFINITION

    states = {state.name: state for state in workload.limit_states}
    lines = []
    for one in forecast.limits:
        name = one.name.partition("|")[0]
        definition, state = limits.get(name, NO_DEFINITION), states.get(one.name)
        if definition.rates or (state is not None and state.learned is not None):
            continue
        how = "learned during the run"
        if definition.max_concurrency:
            how = counted(definition.max_concurrency, "concurrent request")
        if state is not None and state.remaining is not None:
            how += f", after the {count(state.remaining)} that the server reports left"
        lines.append(f"{limit_name(one.name)}: unknown rate ({how}); to assume one: --limit {name}=5000/1h")
    return lines[:LIMITS_SHOWN]


# --- output


def _as_json(estimate: Estimate) -> dict[str, Any]:
    return {
        "queue": estimate.plan.name,
        "file": estimate.plan.file,
        "known": estimate.workload.known,
        "assumed": estimate.workload.assumed,
        **asdict(estimate.forecast),
    }


def _as_text(estimate: Estimate) -> list[str]:
    forecast, workload = estimate.forecast, estimate.workload
    lines = [_headline(estimate), "", f"  work     {workload.known}"]
    lines += [f"  {'assumed' if at == 0 else '':7}  {text}" for at, text in enumerate(workload.assumed)]
    if forecast.exact_to_s:
        lines.append(
            f"  exact    to {span(max(1.0, forecast.exact_to_s))}: requests are simulated in batches"
        )
    if not forecast.requests:
        return lines
    if forecast.limits:
        lines += ["", *_limit_lines(estimate)]
    if len(forecast.work) > 1 or forecast.work[0].label:
        rows = [("RESOURCE", "REQUESTS", "FIRST", "DONE AFTER")]
        for one in forecast.work:
            rows.append(
                (safe(one.label) or "(others)", count(one.requests), _after(one.first_s), _after(one.done_s))
            )
        lines += ["", *table(rows, terminal_width())]
    if len(forecast.bands) > 1:
        band_rows = [("PRIORITY FROM", "TO", "REQUESTS", "DONE AFTER")]
        band_rows += [
            (f"{band.highest:.15g}", f"{band.lowest:.15g}", count(band.requests), _after(band.done_s))
            for band in forecast.bands
        ]
        lines += ["", *table(band_rows, terminal_width())]
    parts = [
        f"{percent}% after {span(forecast.tenths_s[percent // 10 - 1])}"
        for percent in PERCENTS
        if percent // 10 <= len(forecast.tenths_s)
    ]
    return [*lines, "", f"  {', '.join(parts)}"] if parts else lines


def _headline(estimate: Estimate) -> str:
    forecast, name = estimate.forecast, estimate.plan.name
    if not forecast.requests:
        return f"{name}  nothing to do"
    requests = counted(forecast.requests, "request")
    if forecast.left:
        stuck = next((one for one in forecast.limits if one.waiting), None)
        why = f": {limit_name(stuck.name)} does not open by itself" if stuck else ""
        return f"{name}  never done: {count(forecast.left)} of {requests} cannot be sent{why}"
    done = clock(time.time() + forecast.done_s, seconds=False)
    return f"{name}  done after {span(forecast.done_s)}, at {done} UTC if started now: {requests}"


def _limit_lines(estimate: Estimate) -> list[str]:
    shown = estimate.forecast.limits[:LIMITS_SHOWN]
    heading = ("LIMIT", "RATE", "REQUESTS", "USED", "FIRST", "LAST", "WAITS FROM", "WAITED FOR")
    lines = table([heading, *(_limit_row(estimate, one) for one in shown)], terminal_width())
    more = len(estimate.forecast.limits) - len(shown)
    return [*lines, f"{count(more)} more: scrapeq plan --json"] if more else lines


def _limit_row(estimate: Estimate, one: LimitForecast) -> tuple[str, ...]:
    from scrapeq.inspect.limit_report import NO_DEFINITION, rate_text

    definition = estimate.limits.get(one.name.partition("|")[0], NO_DEFINITION)
    learned = [
        rate_text(state.learned)
        for state in estimate.workload.limit_states
        if state.name == one.name and state.learned is not None
    ]
    rate = grant_text(definition) if definition.rates or not learned else ", ".join(learned)
    return (
        limit_name(one.name),
        rate or "unknown",
        count(one.requests),
        "" if one.share is None else f"{one.share * 100:.0f}%",
        span(one.first_s) if one.requests else "never",
        span(one.last_s) if one.requests else "never",
        _after(one.closed_s),
        span(one.held_s) + (f", {count(one.waiting)} forever" if one.waiting else ""),
    )


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else span(seconds)
