"""The command `limits`: show, set and clear rate limits."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.formatting import clock, count, counted, limit_name, safe, span, table
from scrapeq.cli.options import read_duration
from scrapeq.cli.queue_access import terminal_width, with_queue
from scrapeq.cli.settings import Settings
from scrapeq.cli.status import opens_text
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.inspect.limit_report import LimitFact
    from scrapeq.limit import Change, Limit, Rate
    from scrapeq.plan import Plan
    from scrapeq.queue import Queue

BATCH = 200  # limit instances read in one call
ROWS = 200
CHANGES_SHOWN = 10
US = 1_000_000
MAX_CONCURRENCY = 10_000
YAML_WIDTH = 110  # columns
HEADING = ("LIMIT", "KNOWN", "STATE", "RATE", "USED", "OPENS", "IN FLIGHT")

_RATE = re.compile(r"(\d+(?:\.\d+)?)/(\S+)", re.ASCII)
# Units without a number, which people write and the configuration does not allow.
_BARE_UNITS = {"s": "1s", "sec": "1s", "second": "1s", "m": "1m", "min": "1m", "minute": "1m",
               "h": "1h", "hour": "1h", "d": "1d", "day": "1d"}  # fmt: skip

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the limit; see scrapeq limits show.")
]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the command and its subcommands."""
    parent.add_typer(app, name="limits", rich_help_panel="Watch")


@app.callback()
def limits(ctx: typer.Context) -> None:
    """
    Show and change rate limits. Without a subcommand it shows them.

    \b
        scrapeq limits show --yaml
    """
    if ctx.invoked_subcommand is None:
        _show(ctx.obj, [], as_yaml=False)


@app.command()
def show(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Only these limits, with their history.")
    ] = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print rate_limits: for the configuration file.")
    ] = False,
) -> int:
    """
    Show each limit: its rate and where that comes from, its use, and when it opens.

    \b
        scrapeq limits show core

    KNOWN is the source of the rate: configured (the file), manual (limits set), reported (by the server), learned (from
    refusals), concurrency (only a maximum of concurrent requests), unknown.
    """
    return _show(ctx.obj, list(names or ()), as_yaml=as_yaml)


def _show(settings: Settings, names: list[str], *, as_yaml: bool) -> int:
    plan = settings.plan(credentials=False)

    async def read(queue: Queue) -> list[LimitFact]:
        facts = _select(await _read_facts(plan, queue), plan, names)
        if names or as_yaml:
            for at, fact in enumerate(facts):
                if fact.state is not None and fact.state.learned is not None:
                    facts[at] = replace(fact, history=tuple(await queue.limit_history(fact.name)))
        return facts

    facts = with_queue(plan, read)
    if as_yaml:
        _print_yaml(settings, plan, facts)
    elif settings.json:
        settings.print_json({"queue": plan.name, "limits": [_as_json(fact) for fact in facts]})
    elif not facts:
        print("no limits known yet: the file has none, and no request was sent")
    elif names:
        print("\n\n".join("\n".join(_details(fact)) for fact in facts))
    else:
        print("\n".join(table([HEADING, *map(_row, facts[:ROWS])], terminal_width())))
        if len(facts) > ROWS:
            settings.note(f"{count(len(facts) - ROWS)} more: scrapeq limits --json")
    return Exit.DONE


async def _read_facts(plan: Plan, queue: Queue) -> list[LimitFact]:
    from scrapeq.inspect.limit_report import facts_of

    instances = await queue.limit_instances()
    states = []
    for start in range(0, len(instances), BATCH):
        states += await queue.limit_states(instances[start : start + BATCH])
    return facts_of(plan.rate_limits, await queue.definitions(), states)


def _select(facts: list[LimitFact], plan: Plan, names: list[str]) -> list[LimitFact]:
    """Return the facts of limits or single instances with these names; all without names. Raises UsageError."""
    if not names:
        return facts
    selected = []
    for name in names:
        matches = [fact for fact in facts if name in (fact.name, fact.limit, limit_name(fact.name))]
        if not matches:
            raise _unknown_limit(name, plan, [fact.limit for fact in facts])
        selected += [fact for fact in matches if fact not in selected]
    return selected


def _unknown_limit(name: str, plan: Plan, others: list[str]) -> UsageError:
    from scrapeq.expression import did_you_mean

    known = list(dict.fromkeys([*(rule.name for rule in plan.rate_limits), *others]))
    similar = did_you_mean(name, known)
    known_text = f"known limits: {', '.join(known)}" if known else "no limits are known"
    hint = f"did you mean {similar}?" if similar else known_text
    return UsageError(f"unknown limit {safe(name)!r}; {hint}")


# --- text and JSON


def _row(fact: LimitFact) -> tuple[str, ...]:
    state = fact.state
    return (
        limit_name(fact.name),
        fact.source,
        fact.word,
        grant_text(fact.granting) or "-",
        _usage(fact),
        opens_text(state, time.time()) if state else "",
        count(state.in_flight) if state else "",
    )


def grant_text(limit: Limit) -> str:
    """Return what a limit grants: `5,000/1h, 8 concurrent`."""
    from scrapeq.inspect.limit_report import rate_text

    parts = [
        rate_text(rate)
        + (f" burst {rate.burst}" if rate.burst else "")
        + (" aligned" if rate.aligned_s is not None else "")
        for rate in limit.rates
    ]
    if limit.max_concurrency:
        parts.append(f"{limit.max_concurrency} concurrent")
    return ", ".join(parts)


def _usage(fact: LimitFact) -> str:
    state = fact.state
    if state is None:
        return ""
    if state.remaining is not None:
        return f"{count(state.remaining)} left, resets in {span(state.reset_s)}"
    windows = [rate for rate in fact.rates if not rate.burst]
    return f"{count(state.used)} of {windows[0].limit:,.10g}" if len(windows) == 1 else ""


def _details(fact: LimitFact) -> list[str]:
    """Return the lines of one limit with all that is known about it."""
    state = fact.state
    rows = [("known", ", ".join(part for part in (fact.source, grant_text(fact.granting)) if part))]
    if fact.definition.version:
        rows.append(
            ("set", f"{clock(fact.definition.version)} UTC; to undo: scrapeq limits clear {fact.limit}")
        )
    if state is None:
        return [limit_name(fact.name), *_aligned([*rows, ("now", "unused: no request has matched it yet")])]
    now = [fact.word, f"opens {opens_text(state, time.time())}" if fact.word != "open" else ""]
    now += [f"{count(state.in_flight)} in flight", _usage(fact)]
    rows.append(("now", ", ".join(part for part in now if part)))
    if state.probing:
        rows.append(("next", "one probe first: its response opens the limit"))
    if state.in_trial:
        rows.append(("trial", "a rate slightly above the known one is being tried"))
    if state.consecutive_refusals:
        rows.append(("refused", f"{counted(state.consecutive_refusals, 'time')} in a row"))
    rows += [
        ("history" if at == 0 else "", _change_text(one))
        for at, one in enumerate(fact.history[:CHANGES_SHOWN])
    ]
    if len(fact.history) > CHANGES_SHOWN:
        rows.append(("", f"{len(fact.history) - CHANGES_SHOWN} more: --json"))
    return [limit_name(fact.name), *_aligned(rows)]


def _change_text(change: Change) -> str:
    """Return one step of the history of a learned limit."""
    from scrapeq.inspect.limit_report import rate_text
    from scrapeq.limit import Rate

    when = clock(change.at_us / US)
    if not change.limit:
        return f"{when} unknown"
    source = "reported by the server" if change.source == "named" else "learned"
    text = f"{when} {rate_text(Rate(change.limit, change.interval_s))} {source}"
    return text + (f", trying {rate_text(Rate(change.trial, change.interval_s))}" if change.trial else "")


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    size = max(len(name) for name, _ in rows)
    return [f"  {name.ljust(size)}  {text}" for name, text in rows]


def _as_json(fact: LimitFact) -> dict[str, Any]:
    definition = fact.definition
    state = {} if fact.state is None else asdict(fact.state)
    return {
        **state,
        "name": fact.name,
        "limit": fact.limit,
        "known": fact.source,
        "state": fact.word,
        "rates": [asdict(rate) for rate in fact.rates],
        "max_concurrency": definition.max_concurrency,
        "set_by_hand_s": definition.version or None,
        "history": [change._asdict() for change in fact.history],
    }


def _print_yaml(settings: Settings, plan: Plan, facts: list[LimitFact]) -> None:
    import yaml

    from scrapeq.inspect.limit_report import rules_yaml

    entries = rules_yaml(plan, facts)
    if settings.json:
        settings.print_json({"queue": plan.name, "rate_limits": entries})
        return
    if not entries:
        print("# no rates known yet\nrate_limits: []")
        return
    text = yaml.safe_dump({"rate_limits": entries}, sort_keys=False, allow_unicode=True, width=YAML_WIDTH)
    print(text, end="")


# --- changes


@dataclass(frozen=True, slots=True)
class Cleared:
    """What `clear` deleted: the state of these instances, and the manual setting of the limit if it had one."""

    instances: list[LimitFact]
    was_set: bool


@app.command("set")
def set_(
    ctx: typer.Context,
    name: NameArgument,
    rates: Annotated[
        list[str] | None,
        typer.Argument(metavar="RATE...", help="For example 30/1m; all of several rates must grant."),
    ] = None,
    burst: Annotated[int, typer.Option("--burst", metavar="N", min=0, help="Size of the token bucket.")] = 0,
    max_concurrency: Annotated[
        int | None,
        typer.Option(
            "--max-concurrency",
            metavar="N",
            min=1,
            max=MAX_CONCURRENCY,
            help="Maximum number of requests in flight.",
        ),
    ] = None,
) -> int:
    """
    Set what a limit grants, at once and for all its instances.

    \b
        scrapeq limits set core 5000/1h

    The setting is stored in the store and overrides the file, on all machines and across restarts, until
    `scrapeq limits clear`. Limits that the server reports still apply. Rates or a maximum concurrency that are not
    given stay as in the file.
    """
    settings: Settings = ctx.obj
    plan = settings.plan(credentials=False)
    parsed = [read_rate(text, burst) for text in rates or ()]
    if burst and not parsed:
        raise UsageError("--burst needs a rate: 30/1m --burst 5")
    if not parsed and max_concurrency is None:
        raise UsageError(
            f"limits set: give a rate or --max-concurrency; for example scrapeq limits set {safe(name)} 30/1m"
        )
    definition = _definition(plan, name, parsed, max_concurrency)

    async def define(queue: Queue) -> list[LimitFact]:
        await queue.define({name: definition}, force=True)
        return [fact for fact in await _read_facts(plan, queue) if fact.limit == name]

    facts = with_queue(plan, define)
    if settings.json:
        settings.print_json({"queue": plan.name, "limits": [_as_json(fact) for fact in facts]})
    elif settings.verbosity != "quiet":
        print(f"{name}: {grant_text(definition)}; to undo: scrapeq limits clear {name}")
    return Exit.DONE


def read_rate(text: str, burst: int) -> Rate:
    """Return the rate of `30/1m`. Raises UsageError."""
    from scrapeq.limit import Rate

    found = _RATE.fullmatch(text)
    if found is None:
        raise UsageError(f"{safe(text)!r} is not a rate; write requests/interval, for example 30/1m")
    if found[2] in _BARE_UNITS:
        raise UsageError(f"{text!r} is not a rate; write {found[1]}/{_BARE_UNITS[found[2]]}")
    limit, interval_s = float(found[1]), read_duration(found[2], text)
    if 0 < limit < 1:  # as in a file: less than one request per interval is one request per longer interval
        limit, interval_s = 1.0, interval_s / limit
    return Rate(limit, interval_s, burst)


def _definition(plan: Plan, name: str, rates: list[Rate], max_concurrency: int | None) -> Limit:
    from scrapeq.limits.definitions import limits_of

    limits_of_file = limits_of(plan.rate_limits)
    if name not in limits_of_file:
        if "|" in name or " " in name:
            limit = re.split(r"[| ]", name)[0]
            raise UsageError(
                f"{safe(name)!r} is one instance; set the limit {safe(limit)!r}, which applies to all instances"
            )
        raise _unknown_limit(name, plan, [*limits_of_file])
    from_file = limits_of_file[name]
    new_rates = tuple(rates) or from_file.rates
    return replace(
        from_file,
        rates=new_rates,
        max_concurrency=from_file.max_concurrency if max_concurrency is None else max_concurrency,
        learn=not new_rates and from_file.learn,
        version=int(time.time()),  # higher than the version of any file; the latest manual setting wins
    )


@app.command()
def clear(ctx: typer.Context, name: NameArgument) -> int:
    """
    Delete what the store knows about a limit: manual settings, learned and reported rates, current waits.

    \b
        scrapeq limits clear core

    The configuration of the file applies again, and requests in flight still count. NAME may also be one instance, as
    --json prints it; a manual setting then stays.
    """
    settings: Settings = ctx.obj
    plan = settings.plan(credentials=False)
    cleared = with_queue(plan, lambda queue: _clear(plan, queue, name))
    if settings.json:
        names = [fact.name for fact in cleared.instances]
        settings.print_json({"queue": plan.name, "forgotten": names, "was_set": cleared.was_set})
    elif settings.verbosity != "quiet":
        parts = [f"the manual setting of {name}"] if cleared.was_set else []
        parts += [f"the state of {limit_name(fact.name)}{_lifted_wait(fact)}" for fact in cleared.instances]
        print(f"deleted: {', '.join(parts) or 'nothing, the store had no data about it'}")
    return Exit.DONE


async def _clear(plan: Plan, queue: Queue, name: str) -> Cleared:
    from scrapeq.limit import Limit
    from scrapeq.limits.definitions import limits_of

    facts = _select(await _read_facts(plan, queue), plan, [name])
    was_set = any(fact.definition.version and fact.limit == name for fact in facts)
    if was_set:
        await queue.define({name: limits_of(plan.rate_limits).get(name, Limit(learn=True))}, force=True)
    instances = [fact for fact in facts if fact.state is not None]
    for start in range(0, len(instances), BATCH):
        await queue.forget_limits([fact.name for fact in instances[start : start + BATCH]])
    return Cleared(instances, was_set)


def _lifted_wait(fact: LimitFact) -> str:
    """Return the wait that ends with the deletion, as text."""
    state = fact.state
    return f" (lifted a wait of {span(state.parked_s)})" if state is not None and state.parked_s > 0 else ""
