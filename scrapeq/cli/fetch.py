"""The command `fetch`: request one page and show how scrapeq reads it."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AsyncExitStack, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from scrapeq.cli.error_output import FOLDER
from scrapeq.cli.formatting import clock, count, counted, cut, limit_name, safe, span
from scrapeq.cli.options import check_resource, read_bound, split_pair
from scrapeq.cli.queue_access import terminal_width
from scrapeq.cli.settings import CONFIG_VARIABLE, Settings
from scrapeq.errors import UsageError
from scrapeq.exit_codes import Exit

if TYPE_CHECKING:
    from scrapeq.inspect.preview import Preview
    from scrapeq.plan import Plan
    from scrapeq.task import NewTask

RESOURCE = "page"  # name of the resource without a configuration
NAME_WIDTH = 9  # columns of the names at the left
ITEM_WIDTH = 110  # columns of an item where the output is not a terminal


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Check")(fetch)


def fetch(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="[URL]", help="URL to request as it is.")] = "",
    resource: Annotated[
        str,
        typer.Option(
            "--resource",
            metavar="NAME",
            help="Resource that reads the response. Without URL its first page is requested.",
        ),
    ] = "",
    seed: Annotated[
        list[str] | None,
        typer.Option("--seed", metavar="K=V", help="Values of the seed. Default: the first seed."),
    ] = None,
    parent: Annotated[
        list[str] | None, typer.Option("--parent", metavar="K=V", help="Values of the parent record.")
    ] = None,
    max_wait: Annotated[
        str,
        typer.Option("--max-wait", metavar="10m", help="Wait so long for a closed limit. Default: 0s."),
    ] = "",
) -> int:
    """
    Request one page and show how scrapeq reads it.

    \b
        scrapeq -c api.yaml fetch --resource issues --seed owner=octo --seed repo=tools

    It shows the request, the response and its outcome, what it says about rate limits, the items, and the requests that
    follow. The request counts against the limits in the store; no item is written and no task is pushed. Without -c it
    shows how any URL is read without a configuration; with -c alone, the first page of the first resource.

    Exit codes: 0 success, 3 the request failed or would be retried, 4 rate limited, 8 the response stops the run.
    """
    settings: Settings = ctx.obj
    wait_s = read_bound(max_wait, "--max-wait") or 0.0
    if not (url or resource or settings.config or os.environ.get(CONFIG_VARIABLE)):
        raise UsageError("fetch: give a URL, --resource NAME or -c FILE")
    plan = _load_plan(settings, url, resource)
    seed_values, parent_values = _values(seed, "--seed"), _values(parent, "--parent")
    import asyncio

    with (
        open(os.devnull, "w") as null,
        redirect_stdout(sys.stderr),
    ):  # standard output is not for what hooks print
        preview = asyncio.run(_preview(plan, url, resource, seed_values, parent_values, wait_s, null))
    if settings.json:
        settings.print_json(_as_json(plan, preview))
    else:
        print("\n".join(_as_text(preview)))
    return _exit_code(preview)


def _exit_code(preview: Preview) -> Exit:
    """Return the exit code that a run with only this page would have."""
    action = preview.outcome.action if preview.outcome is not None else ""
    if action in ("success", "ignore") and not preview.error:
        return Exit.DONE
    return {"rate_limited": Exit.GAVE_UP, "fail": Exit.RESPONSE}.get(action, Exit.DEAD_LETTERS)


def _load_plan(settings: Settings, url: str, resource: str) -> Plan:
    if settings.config or os.environ.get(CONFIG_VARIABLE) or resource or not url:
        plan = settings.load_and_check(settings.file())
        if resource:
            check_resource([one.name for one in plan.resources], resource, "--resource")
        return plan
    from scrapeq.cli.seed_lines import check_url
    from scrapeq.plan import Endpoint, Paginator, Plan, Resource

    check_url(url)
    return Plan("fetch", "", resources=(Resource(RESOURCE, Endpoint(paginator=Paginator("auto"))),))


def _values(pairs: list[str] | None, option: str) -> dict[str, Any] | None:
    """Return the values of K=V options, read as YAML; None without options."""
    from scrapeq.config.nodes import resolve

    if not pairs:
        return None
    split = [split_pair(text, option, "id=7") for text in pairs]
    return {name: resolve(value) for name, value in split}


async def _preview(
    plan: Plan,
    url: str,
    resource: str,
    seed: dict[str, Any] | None,
    parent: dict[str, Any] | None,
    wait_s: float,
    null: TextIO,
) -> Preview:
    from scrapeq.inspect.preview import preview_page
    from scrapeq.inspect.preview_task import first_page
    from scrapeq.store.open_queue import open_store_queue
    from scrapeq.supervise.sample_api import SampleApi
    from scrapeq.wiring import cursor_store_of, tokens_file, with_base_url

    async with AsyncExitStack() as stack:
        if plan.client.base_url.startswith("demo:"):
            demo = SampleApi(null, lambda text: None)
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


# --- output


def _as_json(plan: Plan, preview: Preview) -> dict[str, Any]:
    page, outcome, attribution = preview.page, preview.outcome, preview.attribution
    return {
        "file": plan.file,
        "resource": preview.task.payload["resource"],
        "page": preview.task.payload.get("page", 1),
        "counted": preview.counted,
        "requests": [
            {
                "method": one.method,
                "url": one.url,
                "headers": [list(field) for field in one.headers],
                "body_bytes": one.size,
            }
            for one in preview.sent
        ],
        "answer": page
        and {
            "url": preview.url,
            "status": page.status,
            "headers": [list(field) for field in preview.headers],
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
                {"limit": name, "remaining": left, "reset_s": reset}
                for name, left, reset in attribution.reported
            ],
            "rates": [{"limit": name, "requests": size, "seconds": s} for name, size, s in attribution.rates],
            "closed": [{"limit": name, "for_s": wait} for name, wait in attribution.refused],
            "costs": [{"limit": name, "weight": weight} for name, weight in attribution.costs],
        },
        "items": dict(preview.items),
        "first_items": [
            {"resource": one.resource, "key": one.key, "record": one.record} for one in preview.first_items
        ],
        "follow_ups": dict(preview.follow_ups),
        "first_follow_ups": [_task_json(task) for task in preview.first_follow_ups],
        "next_page": preview.next_page and _task_json(preview.next_page),
        "auto": preview.next_page and (preview.next_page.payload.get("walk") or {}).get("auto"),
        "left_out": preview.skipped,
        "events": preview.events,
        "error": preview.error,
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
    columns = terminal_width()
    line = f"{name:{NAME_WIDTH}} {text}".rstrip()
    return cut(line, columns) if columns else line


def _as_text(preview: Preview) -> list[str]:
    payload = preview.task.payload
    lines = [f"{payload['resource']}, page {payload.get('page', 1)}"]
    for at, one in enumerate(preview.sent):
        lines += ["", _row("request" if at == 0 else "then", f"{one.method} {safe(one.url)}")]
        lines += [_row("", f"{safe(name)}: {safe(value)}") for name, value in one.headers]
        lines += [_row("", f"body of {counted(one.size, 'byte')}")] if one.size else []
    lines += ["", *_response_lines(preview), *_limit_lines(preview), *_outcome_lines(preview)]
    lines += [*_item_lines(preview), *_follow_up_lines(preview)]
    lines += [_row("event", safe(event)) for event in preview.events]
    counted_by = "the store counted the request" if preview.counted else "no store counted the request"
    return [*lines, "", f"no item was written, no task was pushed; {counted_by}"]


def _response_lines(preview: Preview) -> list[str]:
    page = preview.page
    if page is None:
        return [_row("response", "none")]
    content_type = safe(page.header("content-type") or "without a content type")
    size = counted(len(page.body), "byte")
    lines = [_row("response", f"{page.status} in {page.elapsed_s:.2f} s, {size}, {content_type}")]
    if page.url not in (one.url for one in preview.sent):
        lines.append(_row("", f"from {safe(preview.url)}"))
    return lines


def _limit_lines(preview: Preview) -> list[str]:
    attribution, now_s = preview.attribution, time.time()
    lines = [
        f"{limit_name(name)}: {count(left)} left until {clock(now_s + reset_s)} UTC, in {span(reset_s)}"
        for name, left, reset_s in attribution.reported
    ]
    lines += [
        f"{limit_name(name)}: {size:g} per {span(seconds)}" for name, size, seconds in attribution.rates
    ]
    lines += [f"{limit_name(name)}: closed for {span(wait_s)}" for name, wait_s in attribution.refused]
    lines += [f"{limit_name(name)}: the request cost {weight:g}" for name, weight in attribution.costs]
    if not lines:
        lines = ["nothing reported"]
    return [_row("limits" if at == 0 else "", text) for at, text in enumerate(lines)]


def _outcome_lines(preview: Preview) -> list[str]:
    outcome = preview.outcome
    if outcome is None:
        return [_row("outcome", safe(preview.error) or "none: the request was not sent")]
    text: str = outcome.action
    if outcome.action == "rate_limited":
        text += f" ({outcome.scope})"
    if outcome.wait_s:
        text += f", wait {span(outcome.wait_s)}"
    why = outcome.message or (preview.error if outcome.action != "success" else "")
    lines = [_row("outcome", text + (f": {safe(why)}" if why else ""))]
    if outcome.action == "success" and preview.error:
        lines.append(_row("", f"dead letter: {safe(preview.error)}"))
    return lines


def _item_lines(preview: Preview) -> list[str]:
    import orjson

    if not preview.items:
        return [_row("items", "none")] if preview.outcome and preview.outcome.action == "success" else []
    lines = [_row("items", ", ".join(f"{count(number)} {name}" for name, number in preview.items.items()))]
    for item in preview.first_items:
        text = safe(orjson.dumps(item.record).decode())
        lines.append(_row("", text if terminal_width() else cut(text, ITEM_WIDTH)))
    return lines


def _follow_up_lines(preview: Preview) -> list[str]:
    lines = []
    if preview.follow_ups:
        counts = ", ".join(f"{count(number)} {name}" for name, number in preview.follow_ups.items())
        lines.append(_row("follow-up", counts))
        lines += [_row("", _task_text(task)) for task in preview.first_follow_ups]
    if preview.next_page is not None:
        lines.append(_row("next page", _task_text(preview.next_page)))
    elif preview.outcome is not None and preview.outcome.action == "success" and not preview.error:
        lines.append(_row("next page", "none: this is the last page"))
    if preview.skipped:
        lines.append(_row("skipped", counted(preview.skipped, "record or request", "records and requests")))
    return lines


def _task_text(task: NewTask) -> str:
    payload = task.payload
    return f"{task.priority:.10g}  {payload.get('method', 'GET')} {safe(payload['url'])}"
