"""The family of what incremental walks keep: state show, set, clear."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrapeq.cli.formatting import clock, count, counted, safe, table
from scrapeq.cli.open_queue import width, with_store
from scrapeq.cli.options import check_resource
from scrapeq.cli.settings import Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.plan import Plan, Resource
    from scrapeq.protocols import CursorState
    from scrapeq.queue import Queue

SHOWN = 100  # of more only the number is said; --json shows all
NOTHING = "–"

ResourceOption = Annotated[str, typer.Option("--resource", metavar="NAME", help="Only this resource's.")]
SeedOption = Annotated[
    str, typer.Option("--seed", metavar="JSON", help="""Only this seed's: '{"repo": "a"}'.""")
]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add these verbs."""
    parent.add_typer(app, name="state", rich_help_panel="Data")


@app.callback()
def state(ctx: typer.Context) -> None:
    """
    What incremental walks keep between runs: where the next one begins. Alone it shows it.

    \b
        scrapeq state show --resource issues
    """
    if ctx.invoked_subcommand is None:
        _show(ctx.obj, "", "")


@app.command()
def show(ctx: typer.Context, resource: ResourceOption = "", seed: SeedOption = "") -> int:
    """
    Show what is kept: one line for each resource, seed and parent's record.

    \b
        scrapeq state show --resource issues
    """
    return _show(ctx.obj, resource, seed)


def _show(settings: Settings, resource: str, seed: str) -> int:
    plan = _plan(settings, resource)
    wanted = _read_seed(seed)

    async def read(queue: Queue, client: Any) -> list[CursorState]:
        return [one async for _, one in _kept(queue, client, resource, wanted)]

    found = with_store(plan, read, define=False)
    found.sort(key=lambda one: (one["resource"], str(one["seed"]), one["parent"]))
    if settings.json:
        for one in found:
            settings.print_json(one)
        return Exit.DONE
    if not found:
        print("nothing is kept")
        return Exit.DONE
    rows = [("RESOURCE", "SEED", "PARENT", "CURSOR", "TOKEN", "KEPT")]
    rows += [
        (
            safe(one["resource"]),
            _seed_text(one["seed"]),
            safe(one["parent"]) or NOTHING,
            _text(one["cursor"]),
            _text(one["token"]),
            clock(one["at"]),
        )
        for one in found[:SHOWN]
    ]
    print("\n".join(table(rows, width())))
    if len(found) > SHOWN:
        print(f"{count(len(found) - SHOWN)} more: scrapeq state show --json")
    return Exit.DONE


@app.command("set")
def set_(
    ctx: typer.Context,
    resource: Annotated[str, typer.Option("--resource", metavar="NAME", help="Whose.")],
    cursor: Annotated[
        str, typer.Option("--cursor", metavar="VALUE", help="Where the next walk begins.")
    ] = "",
    token: Annotated[str, typer.Option("--token", metavar="TEXT", help="The server's own bookmark.")] = "",
    seed: SeedOption = "",
) -> int:
    """
    Set where the next walks begin: those that have kept something, and those of the file's seeds.

    \b
        scrapeq state set --resource issues --cursor 2024-05-01T00:00:00Z
    """
    settings: Settings = ctx.obj
    if not cursor and not token:
        raise UsageError("state set: to what? --cursor VALUE, or --token TEXT")
    plan = _plan(settings, resource)
    wanted = _read_seed(seed)
    endpoint = plan.resource(resource).endpoint
    initial = endpoint.incremental.initial_value if endpoint and endpoint.incremental else None

    async def change(queue: Queue, client: Any) -> int:
        from scrapeq.wiring import cursor_store_of

        states = cursor_store_of(client, queue)
        found = dict(_of_seeds(plan, plan.resource(resource), wanted))
        found |= {key: dict(one) async for key, one in _kept(queue, client, resource, wanted)}
        for key, one in found.items():
            changed = {**one, "at": time.time()}
            if cursor:
                changed["cursor"] = _alike(cursor, initial if one["cursor"] is None else one["cursor"])
            if token:
                changed["token"] = token
            await states.put(key, changed)
        return len(found)

    changed = with_store(plan, change, define=False)
    if not changed:
        raise UsageError(f"state set: nothing is kept of {resource}, and none of its seeds is meant")
    return _said(settings, plan, "set", changed)


@app.command()
def clear(ctx: typer.Context, resource: ResourceOption = "", seed: SeedOption = "") -> int:
    """
    Forget what is kept: the next walks begin at the initial value again.

    \b
        scrapeq state clear --resource issues
    """
    settings: Settings = ctx.obj
    plan = _plan(settings, resource)
    wanted = _read_seed(seed)

    async def forget(queue: Queue, client: Any) -> int:
        from scrapeq.wiring import cursor_store_of

        keys = [key async for key, _ in _kept(queue, client, resource, wanted)]
        return await cursor_store_of(client, queue).forget(keys)

    return _said(settings, plan, "cleared", with_store(plan, forget, define=False))


def _said(settings: Settings, plan: Plan, what: str, number: int) -> int:
    if settings.json:
        settings.print_json({"queue": plan.name, what: number})
    elif settings.verbosity != "quiet":
        print(f"{plan.name}: {counted(number, 'state')} {what}")
    return Exit.DONE


def _plan(settings: Settings, resource: str) -> Plan:
    plan = settings.plan()
    if resource:
        check_resource([one.name for one in plan.resources], resource, "--resource")
        endpoint = plan.resource(resource).endpoint
        if endpoint is None or endpoint.incremental is None:
            raise UsageError(f"--resource: {resource} is not incremental: it keeps nothing between runs")
    return plan


async def _kept(
    queue: Queue, client: Any, resource: str, seed: Mapping[str, Any] | None
) -> AsyncIterator[tuple[str, CursorState]]:
    from scrapeq.wiring import cursor_store_of

    async for key, one in cursor_store_of(client, queue).all([resource] if resource else None):
        if seed is None or _is_of(seed, one["seed"]):
            yield key, one


def _of_seeds(
    plan: Plan, resource: Resource, wanted: Mapping[str, Any] | None
) -> list[tuple[str, dict[str, Any]]]:
    """The states that walks of the file's seeds would keep, without a value yet."""
    from scrapeq.resource.identity import Identities, ancestry_of_seed
    from scrapeq.resource.seeds import seeds_of, starts_by_itself

    if not starts_by_itself(resource):
        return []
    identities = Identities(plan)
    found = []
    for seed, _ in seeds_of(plan, resource):
        if wanted is None or _is_of(wanted, seed):
            key, _ = identities.state_key(resource, ancestry_of_seed(resource, seed))
            one = {
                "resource": resource.name,
                "seed": dict(seed),
                "parent": "",
                "cursor": None,
                "token": None,
            }
            found.append((key, one))
    return found


def _read_seed(text: str) -> Mapping[str, Any] | None:
    import orjson

    if not text:
        return None
    try:
        seed = orjson.loads(text)
    except orjson.JSONDecodeError:
        seed = None
    if not isinstance(seed, dict):
        raise UsageError(f"""--seed: {safe(text)!r} is no JSON object: --seed '{{"repo": "a"}}'""")
    return seed


def _is_of(wanted: Mapping[str, Any], seed: Mapping[str, Any]) -> bool:
    return all(name in seed and seed[name] == value for name, value in wanted.items())


def _alike(text: str, before: Any) -> Any:
    """What was typed, a number where there was one."""
    from scrapeq.expression.values import number

    if isinstance(before, int | float):
        value = number(text)
        return text if value is None else value
    return text


def _seed_text(seed: Mapping[str, Any]) -> str:
    return safe(", ".join(f"{name}: {_text(value)}" for name, value in seed.items())) or NOTHING


def _text(value: Any) -> str:
    from scrapeq.expression import as_text

    return safe(as_text(value) or NOTHING)
