"""The verb that shows one page: fetch."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AsyncExitStack, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.formatting import clock, count, counted, cut, limit_name, safe, span
from scrapeq.cli.open_queue import width
from scrapeq.cli.options import check_resource, read_bound
from scrapeq.cli.settings import CONFIG_VARIABLE, Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.inspect.preview import Preview
    from scrapeq.plan import Plan
    from scrapeq.task import NewTask

PLAIN = "page"  # the resource of a page without a configuration
_NAME_WIDTH = 9
_MORE = 110  # columns of an item where the output is no terminal


def register(app: typer.Typer) -> None:
    """Add this verb."""
    app.command(rich_help_panel="Check")(fetch)


def fetch(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="[URL]", help="An address, asked for as it is.")] = "",
    resource: Annotated[
        str,
        typer.Option(
            "--resource",
            metavar="NAME",
            help="Whose page it is; its first one, without URL.",
        ),
    ] = "",
    seed: Annotated[
        list[str] | None,
        typer.Option("--seed", metavar="K=V", help="The seed's values; else the first seed."),
    ] = None,
    parent: Annotated[
        list[str] | None, typer.Option("--parent", metavar="K=V", help="The parent record's values.")
    ] = None,
    max_wait: Annotated[
        str,
        typer.Option(
            "--max-wait", metavar="10m", help="How long to wait for a closed limit; else not at all."
        ),
    ] = "",
) -> int:
    """
    Ask for one page and show it as the engine sees it.

    \b
        scrapeq -c api.yaml fetch --resource issues --seed owner=octo --seed repo=tools

    It shows the request, what the answer tells the limits and means, the items, and what follows. The request counts
    against the limits that are kept in the store; nothing is written or pushed. Without -c any address is shown as it
    is read where nothing is known of it; with -c alone, the first page of the first resource.

    Exit codes: 0 a good answer, 3 one that fails or none, 4 a limit, 8 one that says to stop.
    """
    settings: Settings = ctx.obj
    wait_s = read_bound(max_wait, "--max-wait") or 0.0
    if not (url or resource or settings.config or os.environ.get(CONFIG_VARIABLE)):
        raise UsageError("fetch what? an address, or --resource NAME")
    plan = _plan(settings, url, resource)
    own, above = _values(seed, "--seed"), _values(parent, "--parent")
    import asyncio

    with open(os.devnull, "w") as quiet, redirect_stdout(sys.stderr):  # what hooks print is no answer
        seen = asyncio.run(_see(plan, url, resource, own, above, wait_s, quiet))
    if settings.json:
        settings.print_json(_as_json(plan, seen))
    else:
        print("\n".join(_as_text(seen)))
    return _exit_of(seen)


def _exit_of(seen: Preview) -> Exit:
    """What a run would end with, had it only this page."""
    action = seen.outcome.action if seen.outcome is not None else ""
    if action in ("success", "ignore") and not seen.error:
        return Exit.DONE
    return {"rate_limited": Exit.GAVE_UP, "fail": Exit.RESPONSE}.get(action, Exit.DEAD_LETTERS)


def _plan(settings: Settings, url: str, resource: str) -> Plan:
    if settings.config or os.environ.get(CONFIG_VARIABLE) or resource or not url:
        files = settings.files()
        if len(files) > 1:
            raise UsageError(f"several configurations ran here: {', '.join(files)}; choose one with -c FILE")
        plan = settings.load_whole(files[0])
        if resource:
            check_resource([one.name for one in plan.resources], resource, "--resource")
        return plan
    from scrapeq.cli.seed_lines import address
    from scrapeq.plan import Endpoint, Paginator, Plan, Resource

    address(url)
    return Plan("fetch", "", resources=(Resource(PLAIN, Endpoint(paginator=Paginator("auto"))),))


def _values(given: list[str] | None, option: str) -> dict[str, Any] | None:
    """K=V as values, as YAML would read them; None when there are none."""
    from scrapeq.config.nodes import resolve

    if not given:
        return None
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option}: {text!r} is no KEY=VALUE: {option} id=7")
        values[name] = resolve(value)
    return values


async def _see(
    plan: Plan,
    url: str,
    resource: str,
    seed: dict[str, Any] | None,
    parent: dict[str, Any] | None,
    wait_s: float,
    quiet: TextIO,
) -> Preview:
    from scrapeq.inspect.preview import preview_page
    from scrapeq.inspect.preview_task import first_page
    from scrapeq.store.open_queue import open_store_queue
    from scrapeq.supervise.sample_api import SampleApi
    from scrapeq.wiring import cursor_store_of, tokens_file, with_base_url

    async with AsyncExitStack() as stack:
        if plan.client.base_url.startswith("demo:"):
            demo = SampleApi(quiet, lambda text: None)
            plan = with_base_url(plan, await demo.start())
            stack.push_async_callback(demo.stop, 1.0)
        queue = cursor_store = None
        if plan.file and (plan.redis.url != "embedded" or (FOLDER / "store").exists()):
            queue, client = await stack.enter_async_context(open_store_queue(plan, FOLDER))
            cursor_store = cursor_store_of(client, queue)
        task = await first_page(plan, resource, url, seed, parent, cursor_store)
        tokens = tokens_file(FOLDER, plan) if plan.client.auth.is_refreshable else None
        return await preview_page(
            plan, task, queue=queue, cursor_store=cursor_store, max_wait_s=wait_s, tokens=tokens
        )


# --- the answer


def _as_json(plan: Plan, seen: Preview) -> dict[str, Any]:
    page, outcome, said = seen.page, seen.outcome, seen.attribution
    return {
        "file": plan.file,
        "resource": seen.task.payload["resource"],
        "page": seen.task.payload.get("page", 1),
        "counted": seen.counted,
        "requests": [
            {
                "method": one.method,
                "url": one.url,
                "headers": [list(field) for field in one.headers],
                "body_bytes": one.size,
            }
            for one in seen.sent
        ],
        "answer": page
        and {
            "url": seen.url,
            "status": page.status,
            "headers": [list(field) for field in seen.headers],
            "bytes": len(page.body),
            "elapsed_s": page.elapsed_s,
        },
        "outcome": outcome
        and {
            "action": outcome.action,
            "wait_s": outcome.wait_s,
            "scope": outcome.scope,
            "message": outcome.message,
        },
        "limits": {
            "told": [
                {"limit": name, "remaining": left, "reset_s": reset} for name, left, reset in said.reported
            ],
            "rates": [{"limit": name, "requests": size, "seconds": s} for name, size, s in said.rates],
            "closed": [{"limit": name, "for_s": wait} for name, wait in said.refused],
            "costs": [{"limit": name, "weight": weight} for name, weight in said.costs],
        },
        "items": dict(seen.items),
        "first_items": [
            {"resource": one.resource, "key": one.key, "record": one.record} for one in seen.first_items
        ],
        "follow_ups": dict(seen.follow_ups),
        "first_follow_ups": [_task_json(task) for task in seen.first_follow_ups],
        "next_page": seen.next_page and _task_json(seen.next_page),
        "auto": seen.next_page and (seen.next_page.payload.get("walk") or {}).get("auto"),
        "left_out": seen.skipped,
        "events": seen.events,
        "error": seen.error,
    }


def _task_json(task: NewTask) -> dict[str, Any]:
    payload = task.payload
    return {
        "resource": payload["resource"],
        "method": payload.get("method", "GET"),
        "url": payload["url"],
        "body": payload.get("body"),
        "priority": task.priority,
    }


def _row(name: str, text: str) -> str:
    columns = width()
    line = f"{name:{_NAME_WIDTH}} {text}".rstrip()
    return cut(line, columns) if columns else line


def _as_text(seen: Preview) -> list[str]:
    payload = seen.task.payload
    lines = [f"{payload['resource']}, page {payload.get('page', 1)}"]
    for at, one in enumerate(seen.sent):
        lines += ["", _row("sent" if at == 0 else "and then", f"{one.method} {safe(one.url)}")]
        lines += [_row("", f"{safe(name)}: {safe(value)}") for name, value in one.headers]
        lines += [_row("", f"{count(one.size)} bytes of body")] if one.size else []
    lines += ["", *_answer_lines(seen), *_limit_lines(seen), *_meaning_lines(seen), *_item_lines(seen)]
    lines += _follow_lines(seen)
    lines += [_row("noted", safe(event)) for event in seen.events]
    counted_by = "it counts against the limits in the store" if seen.counted else "no store counts it"
    return [*lines, "", f"nothing was written or pushed; {counted_by}"]


def _answer_lines(seen: Preview) -> list[str]:
    page = seen.page
    if page is None:
        return [_row("answer", "none")]
    kind = safe(page.header("content-type") or "of no declared type")
    lines = [
        _row("answer", f"{page.status} in {page.elapsed_s:.2f} s, {count(len(page.body))} bytes, {kind}")
    ]
    if page.url not in (one.url for one in seen.sent):
        lines.append(_row("", f"from {safe(seen.url)}"))
    return lines


def _limit_lines(seen: Preview) -> list[str]:
    said, now_s = seen.attribution, time.time()
    reported = [
        f"{limit_name(name)}: {count(left)} left until {clock(now_s + reset_s)} UTC, in {span(reset_s)}"
        for name, left, reset_s in said.reported
    ]
    reported += [f"{limit_name(name)}: {size:g} in {span(seconds)}" for name, size, seconds in said.rates]
    reported += [f"{limit_name(name)}: closed for {span(wait_s)}" for name, wait_s in said.refused]
    reported += [f"{limit_name(name)}: it has cost {weight:g}" for name, weight in said.costs]
    if not reported:
        reported = ["nothing is told"]
    return [_row("limits" if at == 0 else "", text) for at, text in enumerate(reported)]


def _meaning_lines(seen: Preview) -> list[str]:
    outcome = seen.outcome
    if outcome is None:
        return [_row("means", safe(seen.error) or "nothing: the request was not sent")]
    text: str = outcome.action
    if outcome.action == "rate_limited":
        text += f" ({outcome.scope})"
    if outcome.wait_s:
        text += f", wait {span(outcome.wait_s)}"
    why = outcome.message or (seen.error if outcome.action != "success" else "")
    lines = [_row("means", text + (f": {safe(why)}" if why else ""))]
    if outcome.action == "success" and seen.error:
        lines.append(_row("", f"dead letter: {safe(seen.error)}"))
    return lines


def _item_lines(seen: Preview) -> list[str]:
    import orjson

    if not seen.items:
        return [_row("items", "none")] if seen.outcome and seen.outcome.action == "success" else []
    lines = [_row("items", ", ".join(f"{count(number)} {name}" for name, number in seen.items.items()))]
    for item in seen.first_items:
        text = safe(orjson.dumps(item.record).decode())
        lines.append(_row("", text if width() else cut(text, _MORE)))
    return lines


def _follow_lines(seen: Preview) -> list[str]:
    lines = []
    if seen.follow_ups:
        counts = ", ".join(f"{count(number)} {name}" for name, number in seen.follow_ups.items())
        lines.append(_row("follows", counts))
        lines += [_row("", _task_text(task)) for task in seen.first_follow_ups]
    if seen.next_page is not None:
        lines.append(_row("next page", _task_text(seen.next_page)))
    elif seen.outcome is not None and seen.outcome.action == "success" and not seen.error:
        lines.append(_row("next page", "none: the walk ends here"))
    if seen.skipped:
        lines.append(_row("left out", counted(seen.skipped, "record or request", "records and requests")))
    return lines


def _task_text(task: NewTask) -> str:
    payload = task.payload
    return f"{task.priority:.10g}  {payload.get('method', 'GET')} {safe(payload['url'])}"
