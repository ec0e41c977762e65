"""The command `state`: show, set and clear the cursors of incremental resources."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.formatting import clock, count, counted, safe, table
from scrapeq.cli.options import check_resource
from scrapeq.cli.queue_access import terminal_width, with_store
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.plan import Plan, Resource
    from scrapeq.protocols import CursorState
    from scrapeq.queue import Queue

ROWS = 100
EMPTY = "–"

ResourceOption = Annotated[
    str, typer.Option("--resource", metavar="NAME", help="Only cursors of this resource.")
]
SeedOption = Annotated[
    str, typer.Option("--seed", metavar="JSON", help="""Only cursors of these seeds: '{"repo": "a"}'.""")
]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the command and its subcommands."""
    parent.add_typer(app, name="state", rich_help_panel="Data")


@app.callback()
def state(ctx: typer.Context) -> None:
    """
    Show and change the cursors: where incremental resources continue. Without a subcommand it shows them.

    \b
        scrapeq state show --resource issues
    """
    if ctx.invoked_subcommand is None:
        _show(ctx.obj, "", "")


@app.command()
def show(ctx: typer.Context, resource: ResourceOption = "", seed: SeedOption = "") -> int:
    """
    Show the stored cursors, one per resource, seed and parent record.

    \b
        scrapeq state show --resource issues
    """
    return _show(ctx.obj, resource, seed)


def _show(settings: Settings, resource: str, seed_text: str) -> int:
    plan = _load_plan(settings, resource)
    seed = _read_seed(seed_text)

    async def read(queue: Queue, client: Any) -> list[CursorState]:
        return [cursor async for _, cursor in _stored(queue, client, resource, seed)]

    cursors = with_store(plan, read, define=False)
    cursors.sort(key=lambda one: (one["resource"], str(one["seed"]), one["parent"]))
    if settings.json:
        for one in cursors:
            settings.print_json(one)
        return Exit.DONE
    if not cursors:
        print("no cursors stored")
        return Exit.DONE
    rows = [("RESOURCE", "SEED", "PARENT", "CURSOR", "TOKEN", "SAVED")]
    rows += [
        (
            safe(one["resource"]),
            _seed_text(one["seed"]),
            safe(one["parent"]) or EMPTY,
            _text(one["cursor"]),
            _text(one["token"]),
            clock(one["at"]),
        )
        for one in cursors[:ROWS]
    ]
    print("\n".join(table(rows, terminal_width())))
    if len(cursors) > ROWS:
        print(f"{count(len(cursors) - ROWS)} more: scrapeq state show --json")
    return Exit.DONE


@app.command("set")
def set_(
    ctx: typer.Context,
    resource: Annotated[str, typer.Option("--resource", metavar="NAME", help="The resource.")],
    cursor: Annotated[
        str, typer.Option("--cursor", metavar="VALUE", help="Where the next run continues.")
    ] = "",
    token: Annotated[
        str, typer.Option("--token", metavar="TEXT", help="The sync token that the server issued.")
    ] = "",
    seed: SeedOption = "",
) -> int:
    """
    Set where an incremental resource continues. This sets its stored cursors, and those of the seeds of the file.

    \b
        scrapeq state set --resource issues --cursor 2024-05-01T00:00:00Z
    """
    settings: Settings = ctx.obj
    if not cursor and not token:
        raise UsageError("state set: give --cursor VALUE or --token TEXT")
    plan = _load_plan(settings, resource)
    seed_values = _read_seed(seed)
    endpoint = plan.resource(resource).endpoint
    initial = endpoint.incremental.initial_value if endpoint and endpoint.incremental else None

    async def change(queue: Queue, client: Any) -> int:
        from scrapeq.wiring import cursor_store_of

        store = cursor_store_of(client, queue)
        cursors = dict(_empty_cursors(plan, plan.resource(resource), seed_values))
        cursors |= {key: dict(one) async for key, one in _stored(queue, client, resource, seed_values)}
        for key, one in cursors.items():
            changed = {**one, "at": time.time()}
            if cursor:
                changed["cursor"] = _same_type(cursor, initial if one["cursor"] is None else one["cursor"])
            if token:
                changed["token"] = token
            await store.put(key, changed)
        return len(cursors)

    changed = with_store(plan, change, define=False)
    if not changed:
        raise UsageError(f"state set: no stored cursor and no seed of {resource} matches")
    return _report(settings, plan, "set", changed)


@app.command()
def clear(ctx: typer.Context, resource: ResourceOption = "", seed: SeedOption = "") -> int:
    """
    Delete cursors, so that the next run starts from the initial value.

    \b
        scrapeq state clear --resource issues
    """
    settings: Settings = ctx.obj
    plan = _load_plan(settings, resource)
    seed_values = _read_seed(seed)

    async def forget(queue: Queue, client: Any) -> int:
        from scrapeq.wiring import cursor_store_of

        keys = [key async for key, _ in _stored(queue, client, resource, seed_values)]
        return await cursor_store_of(client, queue).forget(keys)

    return _report(settings, plan, "cleared", with_store(plan, forget, define=False))


def _report(settings: Settings, plan: Plan, verb: str, number: int) -> int:
    if settings.json:
        settings.print_json({"queue": plan.name, verb: number})
    elif settings.verbosity != "quiet":
        print(f"{plan.name}: {counted(number, 'cursor')} {verb}")
    return Exit.DONE


def _load_plan(settings: Settings, resource: str) -> Plan:
    plan = settings.plan()
    if resource:
        check_resource([one.name for one in plan.resources], resource, "--resource")
        endpoint = plan.resource(resource).endpoint
        if endpoint is None or endpoint.incremental is None:
            raise UsageError(f"--resource: {resource} is not incremental, so it stores no cursor")
    return plan


async def _stored(
    queue: Queue, client: Any, resource: str, seed: Mapping[str, Any] | None
) -> AsyncIterator[tuple[str, CursorState]]:
    """Yield the stored cursors that match, with their keys."""
    from scrapeq.wiring import cursor_store_of

    async for key, one in cursor_store_of(client, queue).all([resource] if resource else None):
        if seed is None or _has_values(one["seed"], seed):
            yield key, one


def _empty_cursors(
    plan: Plan, resource: Resource, seed_values: Mapping[str, Any] | None
) -> list[tuple[str, dict[str, Any]]]:
    """Return cursors without a value for the seeds of the file that match, with their keys."""
    from scrapeq.resource.identity import Identities, ancestry_of_seed
    from scrapeq.resource.seeds import seeds_of, starts_by_itself

    if not starts_by_itself(resource):
        return []
    identities = Identities(plan)
    cursors = []
    for seed, _ in seeds_of(plan, resource):
        if seed_values is None or _has_values(seed, seed_values):
            key, _ = identities.state_key(resource, ancestry_of_seed(resource, seed))
            cursor = {
                "resource": resource.name,
                "seed": dict(seed),
                "parent": "",
                "cursor": None,
                "token": None,
            }
            cursors.append((key, cursor))
    return cursors


def _read_seed(text: str) -> Mapping[str, Any] | None:
    import orjson

    if not text:
        return None
    try:
        seed = orjson.loads(text)
    except orjson.JSONDecodeError:
        seed = None
    if not isinstance(seed, dict):
        raise UsageError(
            f"""--seed: expected a JSON object, got {safe(text)!r}; for example --seed '{{"repo": "a"}}'"""
        )
    return seed


def _has_values(seed: Mapping[str, Any], seed_values: Mapping[str, Any]) -> bool:
    return all(name in seed and seed[name] == value for name, value in seed_values.items())


def _same_type(text: str, previous: Any) -> Any:
    """Return the text as a number if the previous value was one."""
    from scrapeq.expression.values import number

    if isinstance(previous, int | float):
        value = number(text)
        return text if value is None else value
    return text


def _seed_text(seed: Mapping[str, Any]) -> str:
    return safe(", ".join(f"{name}: {_text(value)}" for name, value in seed.items())) or EMPTY


def _text(value: Any) -> str:
    from scrapeq.expression import as_text

    return safe(as_text(value) or EMPTY)
