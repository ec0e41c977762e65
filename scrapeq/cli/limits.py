"""The family of limits: limits show, set, clear."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.formatting import clock, count, counted, limit_name, safe, span, table
from scrapeq.cli.open_queue import width, with_queue
from scrapeq.cli.options import read_duration
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.inspect.limit_report import LimitFact
    from scrapeq.limit import Change, Limit, Rate
    from scrapeq.plan import Plan
    from scrapeq.queue import Queue

PIECE = 200  # limit instances looked at in one call
SHOWN = 200
CHANGES_SHOWN = 10
US = 1_000_000
MAX_AT_ONCE = 10_000

_RATE = re.compile(r"(\d+(?:\.\d+)?)/(\S+)", re.ASCII)
_WORDS = {"s": "1s", "sec": "1s", "second": "1s", "m": "1m", "min": "1m", "minute": "1m",
          "h": "1h", "hour": "1h", "d": "1d", "day": "1d"}  # fmt: skip

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The limit; see `limits show`.")]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add these verbs."""
    parent.add_typer(app, name="limits", rich_help_panel="Watch")


@app.callback()
def limits(ctx: typer.Context) -> None:
    """
    Rate limits: what is known of each, and how. Alone it shows them.

    \b
        scrapeq limits show --yaml
    """
    if ctx.invoked_subcommand is None:
        _show(ctx.obj, [], as_yaml=False)


@app.command()
def show(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Only these, with their history.")
    ] = None,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="As rate_limits: for the file.")] = False,
) -> int:
    """
    Show what is known of each limit, how it is known, its use now and when it opens.

    \b
        scrapeq limits show core

    KNOWN says how: configured (in the file), by hand (limits set), told (by the answers), learned (from refusals),
    concurrency (only how many at once), unknown.
    """
    return _show(ctx.obj, list(names or ()), as_yaml=as_yaml)


def _show(settings: Settings, names: list[str], *, as_yaml: bool) -> int:
    plan = settings.plan(credentials=False)

    async def read(queue: Queue) -> list[LimitFact]:
        found = _chosen(await _facts(plan, queue), plan, names)
        asked = found if names or as_yaml else []
        for at, fact in enumerate(asked):
            if fact.state is not None and fact.state.learned is not None:
                found[at] = replace(fact, history=tuple(await queue.limit_history(fact.name)))
        return found

    facts = with_queue(plan, read)
    if as_yaml:
        _print_yaml(settings, plan, facts)
    elif settings.json:
        settings.print_json({"queue": plan.name, "limits": [_as_json(fact) for fact in facts]})
    elif not facts:
        print("no limit is known yet: the file has none, and no request was sent")
    elif names:
        print("\n\n".join("\n".join(_block(fact)) for fact in facts))
    else:
        print("\n".join(table([_HEADING, *map(_row, facts[:SHOWN])], width())))
        if len(facts) > SHOWN:
            settings.note(f"{count(len(facts) - SHOWN)} more: scrapeq limits --json")
    return Exit.DONE


async def _facts(plan: Plan, queue: Queue) -> list[LimitFact]:
    from scrapeq.inspect.limit_report import facts_of

    instances = await queue.limit_instances()
    states = []
    for start in range(0, len(instances), PIECE):
        states += await queue.limit_states(instances[start : start + PIECE])
    return facts_of(plan.rate_limits, await queue.definitions(), states)


def _chosen(facts: list[LimitFact], plan: Plan, names: list[str]) -> list[LimitFact]:
    """Those that are named, by their limit's name or as one instance. Raises UsageError."""
    if not names:
        return facts
    found = []
    for name in names:
        own = [fact for fact in facts if name in (fact.name, fact.limit, limit_name(fact.name))]
        if not own:
            raise _unknown(name, plan, [fact.limit for fact in facts])
        found += [fact for fact in own if fact not in found]
    return found


def _unknown(name: str, plan: Plan, others: list[str]) -> UsageError:
    from scrapeq.expression import did_you_mean

    known = list(dict.fromkeys([*(rule.name for rule in plan.rate_limits), *others]))
    near = did_you_mean(name, known)
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}" if known else "there is none"
    return UsageError(f"no limit is called {safe(name)!r}; {hint}")


# --- as text


_HEADING = ("LIMIT", "KNOWN", "STATE", "RATE", "USED", "OPENS", "IN FLIGHT")


def _row(fact: LimitFact) -> tuple[str, ...]:
    state = fact.state
    return (
        limit_name(fact.name),
        fact.how,
        fact.word,
        granted(fact.granting) or "-",
        _used(fact),
        _opens(fact, time.time()),
        count(state.in_flight) if state else "",
    )


def granted(limit: Limit) -> str:
    """`5,000/1h, 8 at once`."""
    from scrapeq.inspect.limit_report import rate_text

    parts = [
        rate_text(rate)
        + (f" burst {rate.burst}" if rate.burst else "")
        + (" aligned" if rate.aligned_s is not None else "")
        for rate in limit.rates
    ]
    if limit.max_concurrency:
        parts.append(f"{limit.max_concurrency} at once")
    return ", ".join(parts)


def _used(fact: LimitFact) -> str:
    state = fact.state
    if state is None:
        return ""
    if state.remaining is not None:
        return f"{count(state.remaining)} left, resets in {span(state.reset_s)}"
    windows = [rate for rate in fact.rates if not rate.burst]
    return f"{count(state.used)} of {windows[0].limit:,.10g}" if len(windows) == 1 else ""


def _opens(fact: LimitFact, now_s: float) -> str:
    state = fact.state
    if state is None:
        return ""
    if state.opens_s == 0:
        return "now"
    if state.opens_s is None:
        return "when resumed" if state.paused else "at an answer"
    return f"{clock(now_s + state.opens_s)} in {span(state.opens_s)}"


def _block(fact: LimitFact) -> list[str]:
    """All about one limit."""
    state, now_s = fact.state, time.time()
    rows = [("known", ", ".join(part for part in (fact.how, granted(fact.granting)) if part))]
    if fact.definition.version:
        rows.append(
            ("set", f"by hand {clock(fact.definition.version)} UTC; scrapeq limits clear {fact.limit}")
        )
    if state is None:
        return [limit_name(fact.name), *_aligned([*rows, ("now", "no request has met it yet")])]
    now = [fact.word, f"opens {_opens(fact, now_s)}" if fact.word != "open" else ""]
    now += [f"{count(state.in_flight)} in flight", _used(fact)]
    rows.append(("now", ", ".join(part for part in now if part)))
    if state.probing:
        rows.append(("next", "one request first: its answer opens it"))
    if state.in_trial:
        rows.append(("trial", "a little more than is known is tried out"))
    if state.consecutive_refusals:
        rows.append(("refused", f"{counted(state.consecutive_refusals, 'time')} in a row"))
    rows += [
        ("history" if at == 0 else "", _change(one)) for at, one in enumerate(fact.history[:CHANGES_SHOWN])
    ]
    if len(fact.history) > CHANGES_SHOWN:
        rows.append(("", f"{len(fact.history) - CHANGES_SHOWN} more: --json"))
    return [limit_name(fact.name), *_aligned(rows)]


def _change(change: Change) -> str:
    """One step of what was learned."""
    from scrapeq.inspect.limit_report import rate_text
    from scrapeq.limit import Rate

    when = clock(change.at_us / US)
    if not change.limit:
        return f"{when} nothing is known"
    how = "named by an answer" if change.source == "named" else "learned"
    said = f"{when} {rate_text(Rate(change.limit, change.interval_s))} {how}"
    return said + (f", {rate_text(Rate(change.trial, change.interval_s))} tried out" if change.trial else "")


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
        "known": fact.how,
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
        print("# of no limit is known yet what it grants\nrate_limits: []")
        return
    print(yaml.safe_dump({"rate_limits": entries}, sort_keys=False, allow_unicode=True, width=110), end="")


# --- by hand


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was forgotten."""

    instances: list[LimitFact]
    was_set: bool


@app.command("set")
def set_(
    ctx: typer.Context,
    name: NameArgument,
    rates: Annotated[
        list[str] | None, typer.Argument(metavar="RATE", help="30/1m; of several all must grant.")
    ] = None,
    burst: Annotated[
        int, typer.Option("--burst", metavar="N", min=0, help="A token bucket of this size.")
    ] = 0,
    at_once: Annotated[
        int | None,
        typer.Option(
            "--max-concurrency", metavar="N", min=1, max=MAX_AT_ONCE, help="So many in flight at most."
        ),
    ] = None,
) -> int:
    """
    Say by hand what a limit grants. It holds at once and for all its instances.

    \b
        scrapeq limits set core 5000/1h

    It is kept in the store and stands above what the file says, over restarts and on all machines, until
    `limits clear`. What answers tell is obeyed nevertheless. What is not given, rates or max_concurrency, stays as
    the file says.
    """
    settings: Settings = ctx.obj
    plan = settings.plan(credentials=False)
    read = [read_rate(text, burst) for text in rates or ()]
    if burst and not read:
        raise UsageError("--burst needs a rate: 30/1m --burst 5")
    if not read and at_once is None:
        raise UsageError(f"set {safe(name)} to what? for example: scrapeq limits set {safe(name)} 30/1m")
    definition = _definition(plan, name, read, at_once)

    async def define(queue: Queue) -> list[LimitFact]:
        await queue.define({name: definition}, force=True)
        return [fact for fact in await _facts(plan, queue) if fact.limit == name]

    facts = with_queue(plan, define)
    if settings.json:
        settings.print_json({"queue": plan.name, "limits": [_as_json(fact) for fact in facts]})
    elif settings.verbosity != "quiet":
        print(f"{name}: {granted(definition)}, by hand, until: scrapeq limits clear {name}")
    return Exit.DONE


def read_rate(text: str, burst: int) -> Rate:
    """`30/1m`. Raises UsageError."""
    from scrapeq.limit import Rate

    found = _RATE.fullmatch(text)
    if found is None:
        raise UsageError(f"{safe(text)!r} is no rate: write 30/1m, so many requests in so long")
    if found[2] in _WORDS:
        raise UsageError(f"{text!r} is no rate: write {found[1]}/{_WORDS[found[2]]}")
    limit, interval_s = float(found[1]), read_duration(found[2], text)
    if 0 < limit < 1:  # as in a file: a window that holds less than one request is as long as one takes
        limit, interval_s = 1.0, interval_s / limit
    return Rate(limit, interval_s, burst)


def _definition(plan: Plan, name: str, rates: list[Rate], at_once: int | None) -> Limit:
    from scrapeq.limits.definitions import limits_of

    of_file = limits_of(plan.rate_limits)
    if name not in of_file:
        if "|" in name or " " in name:
            short = re.split(r"[| ]", name)[0]
            raise UsageError(f"{safe(name)!r} is one instance; a limit is set for all of them: {safe(short)}")
        raise _unknown(name, plan, [*of_file])
    most = of_file[name].max_concurrency if at_once is None else at_once
    granted = tuple(rates) or of_file[name].rates
    # above any version of a file, and of two by hand the later
    learn = not granted and of_file[name].learn
    return replace(of_file[name], rates=granted, max_concurrency=most, learn=learn, version=int(time.time()))


@app.command()
def clear(ctx: typer.Context, name: NameArgument) -> int:
    """
    Forget what is known of a limit: what was set by hand, learned and told, its waits too. The file's word counts.

    \b
        scrapeq limits clear core

    NAME may also be one instance, as --json shows it; then what was set by hand stays. What is in flight still counts.
    """
    settings: Settings = ctx.obj
    plan = settings.plan(credentials=False)
    cleared = with_queue(plan, lambda queue: _clear(plan, queue, name))
    if settings.json:
        names = [fact.name for fact in cleared.instances]
        settings.print_json({"queue": plan.name, "forgotten": names, "was_set": cleared.was_set})
    elif settings.verbosity != "quiet":
        parts = [f"what was set by hand of {name}"] if cleared.was_set else []
        parts += [f"what was known of {limit_name(fact.name)}{_lifted(fact)}" for fact in cleared.instances]
        print(f"forgotten: {', '.join(parts) or 'nothing, for nothing was known'}")
    return Exit.DONE


async def _clear(plan: Plan, queue: Queue, name: str) -> Cleared:
    from scrapeq.limit import Limit
    from scrapeq.limits.definitions import limits_of

    facts = _chosen(await _facts(plan, queue), plan, [name])
    was_set = any(fact.definition.version and fact.limit == name for fact in facts)
    if was_set:
        await queue.define({name: limits_of(plan.rate_limits).get(name, Limit(learn=True))}, force=True)
    instances = [fact for fact in facts if fact.state is not None]
    for start in range(0, len(instances), PIECE):
        await queue.forget_limits([fact.name for fact in instances[start : start + PIECE]])
    return Cleared(instances, was_set)


def _lifted(fact: LimitFact) -> str:
    """The wait that is gone with it."""
    state = fact.state
    return (
        f" (a wait of {span(state.parked_s)} is lifted)" if state is not None and state.parked_s > 0 else ""
    )
