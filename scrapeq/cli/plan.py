"""The verb that looks ahead: plan."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.formatting import clock, count, counted, limit_name, safe, span, table
from scrapeq.cli.limits import read_rate
from scrapeq.cli.open_queue import width, with_store
from scrapeq.cli.options import check_resource, read_duration
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.inspect.forecast_inputs import Assumed, Undertaking
    from scrapeq.limit import Limit
    from scrapeq.plan import Plan
    from scrapeq.queue import Queue
    from scrapeq.simulate import Forecast, LimitForecast

ASSUMED = re.compile(r"([^=]+)=(\d+(?:\.\d+)?)(?:/(page|record))?", re.ASCII)
LIMITS_SHOWN = 20
LATENCY = "300ms"  # of an answer, where nothing else is said
PERCENTS = (10, 50, 90)


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command(rich_help_panel="Check")(plan)


@dataclass(frozen=True, slots=True)
class Planned:
    """What was simulated, and what came out."""

    plan: Plan
    undertaking: Undertaking
    limits: dict[str, Limit]
    forecast: Forecast


def plan(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The YAML file; none: -c, or what ran here.")
    ] = None,
    pages: Annotated[
        int | None, typer.Option("--pages", metavar="N", min=1, help="Pages of each list; else one.")
    ] = None,
    records: Annotated[
        float | None, typer.Option("--records", metavar="N", min=0, help="Records on a page.")
    ] = None,
    assumed: Annotated[
        list[str] | None,
        typer.Option("--assume", metavar="R=N", help="Requests of a resource: N, N/page or N/record."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=30/1m", help="As though this limit granted that."),
    ] = None,
    latency: Annotated[
        str, typer.Option("--latency", metavar="300ms", help="How long an answer takes.")
    ] = LATENCY,
    workers: Annotated[int | None, typer.Option(metavar="N", min=1, help="Fetcher processes.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Requests at once in each.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="From the seeds, whatever waits in the queue.")
    ] = False,
) -> int:
    """
    Say how long the work will take under its limits, by limit and by priority. No request is sent, nothing changes.

    \b
        scrapeq plan api.yaml --pages 40 --assume comments=0.5/record --records 50

    The work is what waits in the queue, with what is known there of the limits; where nothing ran yet, the first
    pages. What an answer will bring nobody knows before it is asked for: --pages, --assume and --records say it, and
    the answer says what was assumed. N/page and N/record count for each page or record of the resource's parent.
    """
    settings: Settings = ctx.obj
    changes = {"run.workers": workers, "run.concurrency": concurrency}
    loaded = _load(settings, file, {key: value for key, value in changes.items() if value is not None})
    given = [_read_assumed(loaded, text) for text in assumed or ()]
    latency_s = read_duration(latency, "--latency")
    undertaking, limits = _known(loaded, fresh)
    limits |= _as_though(limits, limit or [])

    from scrapeq.inspect.forecast_inputs import assume
    from scrapeq.simulate import simulate
    from scrapeq.wiring import pools_of

    assume(loaded, undertaking, pages=pages, records=records, given=given)
    slots = loaded.run.workers * loaded.run.concurrency
    states = [state for state in undertaking.limit_states if not _is_though(state.name, limit or [])]
    forecast = simulate(
        undertaking.work, limits, slots=slots, latency_s=latency_s, states=states, pools=pools_of(loaded)
    )
    undertaking.assumed.append(
        f"an answer takes {latency}, {counted(slots, 'request')} at once, and none is refused"
    )
    undertaking.assumed += _unknown(forecast, limits, undertaking)
    if loaded.queue.order != "strict":
        undertaking.assumed.append(
            f"order: strict, though the file says {loaded.queue.order}; the whole is the same"
        )
    planned = Planned(loaded, undertaking, limits, forecast)
    if settings.json:
        settings.print_json(_as_json(planned))
    else:
        print("\n".join(_as_text(planned)))
    return Exit.DONE


def _load(settings: Settings, file: str | None, changes: dict[str, Any]) -> Plan:
    if file is None:
        return settings.plan(changes)
    (only,) = settings.files([file])
    return settings.load(only, changes)


def _known(plan: Plan, fresh: bool) -> tuple[Undertaking, dict[str, Limit]]:
    """The work, and the limits by name: what was set by hand stands above the file."""
    from scrapeq.inspect.forecast_inputs import seeded, waiting
    from scrapeq.limits.definitions import limits_of

    limits = limits_of(plan.rate_limits)
    nothing_ran = plan.redis.url == "embedded" and not (FOLDER / "store").exists()
    if not fresh and not nothing_ran:

        async def look(queue: Queue, _: Any) -> tuple[Undertaking | None, dict[str, Limit]]:
            return await waiting(queue), await queue.definitions()

        found, defined = with_store(plan, look, define=False)
        limits |= {name: one for name, one in defined.items() if one.version}
        if found is not None:
            return found, limits
    return seeded(plan, time.time()), limits


def _read_assumed(plan: Plan, text: str) -> Assumed:
    from scrapeq.inspect.forecast_inputs import Assumed

    found = ASSUMED.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--assume: {safe(text)!r} is no RESOURCE=N: comments=500, comments=20/page or /record"
        )
    check_resource([one.name for one in plan.resources], found[1], "--assume")
    return Assumed(found[1], float(found[2]), found[3] or "")  # type: ignore[arg-type]


def _is_though(instance: str, given: list[str]) -> bool:
    return instance.partition("|")[0] in [text.partition("=")[0] for text in given]


def _as_though(limits: dict[str, Limit], given: list[str]) -> dict[str, Limit]:
    """--limit core=30/1m, of several for one name all grant."""
    changed: dict[str, Limit] = {}
    for text in given:
        name, equals, rate = text.partition("=")
        if not equals or name not in limits:
            known = f"; there are: {', '.join(limits)}" if equals else ""
            raise UsageError(f"--limit: {safe(text)!r} is no NAME=RATE, such as core=30/1m{known}")
        before = changed.get(name)
        rates = (*(before.rates if before else ()), read_rate(rate, 0))
        changed[name] = replace(limits[name], rates=rates, learn=False)
    return changed


def _unknown(forecast: Forecast, limits: dict[str, Limit], undertaking: Undertaking) -> list[str]:
    """What is not known of limits that count."""
    from scrapeq.inspect.limit_report import NO_DEFINITION

    states = {state.name: state for state in undertaking.limit_states}
    said = []
    for one in forecast.limits:
        name = one.name.partition("|")[0]
        definition, state = limits.get(name, NO_DEFINITION), states.get(one.name)
        if definition.rates or (state is not None and state.learned is not None):
            continue
        what = (
            f"{definition.max_concurrency} at once"
            if definition.max_concurrency
            else "it is learned on the way"
        )
        if state is not None and state.remaining is not None:
            what = f"after the told {count(state.remaining)} {what}"
        said.append(f"of {limit_name(one.name)} no rate is known, {what}: --limit {name}=5000/1h")
    return said[:LIMITS_SHOWN]


# --- the answer


def _as_json(planned: Planned) -> dict[str, Any]:
    forecast = planned.forecast
    return {
        "queue": planned.plan.name,
        "file": planned.plan.file,
        "known": planned.undertaking.known,
        "assumed": planned.undertaking.assumed,
        **asdict(forecast),
    }


def _as_text(planned: Planned) -> list[str]:
    forecast, undertaking = planned.forecast, planned.undertaking
    lines = [_headline(planned), "", f"  work     {undertaking.known}"]
    lines += [f"  {'assumed' if at == 0 else '':7}  {text}" for at, text in enumerate(undertaking.assumed)]
    if forecast.exact_to_s:
        lines.append(f"  exact    to {span(max(1.0, forecast.exact_to_s))}: requests are counted in lots")
    if not forecast.requests:
        return lines
    if forecast.limits:
        lines += ["", *_limit_lines(planned)]
    if len(forecast.work) > 1 or forecast.work[0].label:
        rows = [("RESOURCE", "REQUESTS", "FIRST", "DONE AFTER")]
        for one in forecast.work:
            first = "never" if one.first_s is None else span(one.first_s)
            rows.append((safe(one.label) or "(others)", count(one.requests), first, _after(one.done_s)))
        lines += ["", *table(rows, width())]
    if len(forecast.bands) > 1:
        rows_ = [("PRIORITY FROM", "TO", "REQUESTS", "DONE AFTER")]
        rows_ += [
            (f"{band.highest:.15g}", f"{band.lowest:.15g}", count(band.requests), _after(band.done_s))
            for band in forecast.bands
        ]
        lines += ["", *table(rows_, width())]
    reached = [
        (percent, percent // 10 - 1) for percent in PERCENTS if percent // 10 <= len(forecast.tenths_s)
    ]
    parts = [f"{percent} % after {span(forecast.tenths_s[at])}" for percent, at in reached]
    return [*lines, "", f"  {', '.join(parts)}"] if parts else lines


def _headline(planned: Planned) -> str:
    forecast, name = planned.forecast, planned.plan.name
    if not forecast.requests:
        return f"{name}  nothing to do"
    requests = counted(forecast.requests, "request")
    if forecast.left:
        held = next((one for one in forecast.limits if one.waiting), None)
        why = f": {limit_name(held.name)} does not open by itself" if held else ""
        return f"{name}  never done: {count(forecast.left)} of {requests} wait for good{why}"
    done = clock(time.time() + forecast.done_s, seconds=False)
    return f"{name}  done after {span(forecast.done_s)}, at {done} UTC if begun now: {requests}"


def _limit_lines(planned: Planned) -> list[str]:
    shown = planned.forecast.limits[:LIMITS_SHOWN]
    heading = ("LIMIT", "RATE", "REQUESTS", "USED", "FIRST", "LAST", "WAITS FROM", "WAITED FOR")
    lines = table([heading, *(_limit_row(planned, one) for one in shown)], width())
    more = len(planned.forecast.limits) - len(shown)
    return [*lines, f"{count(more)} more: scrapeq plan --json"] if more else lines


def _limit_row(planned: Planned, one: LimitForecast) -> tuple[str, ...]:
    from scrapeq.cli.limits import granted
    from scrapeq.inspect.limit_report import NO_DEFINITION, rate_text

    definition = planned.limits.get(one.name.partition("|")[0], NO_DEFINITION)
    learned = [
        s.learned for s in planned.undertaking.limit_states if s.name == one.name and s.learned is not None
    ]
    rate = (
        granted(definition) if definition.rates else ", ".join(map(rate_text, learned)) or granted(definition)
    )
    return (
        limit_name(one.name),
        rate or "unknown",
        count(one.requests),
        "" if one.share is None else f"{one.share * 100:.0f} %",
        span(one.first_s) if one.requests else "never",
        span(one.last_s) if one.requests else "never",
        "never" if one.closed_s is None else span(one.closed_s),
        f"{span(one.held_s)}" + (f", {count(one.waiting)} for good" if one.waiting else ""),
    )


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else span(seconds)
