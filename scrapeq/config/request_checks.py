"""What the parts of one request say of each other: credentials, the walk over pages, what is new, when it is due."""

from __future__ import annotations

from scrapeq.config.expression_scopes import INCREMENTAL
from scrapeq.config.read_context import ExpressionUse, ReadContext
from scrapeq.config.records import ParsedMap
from scrapeq.expression import as_number, did_you_mean

NUMBERED = ("offset", "page_number")  # walks whose pages have numbers: all of them can be asked for at once
MAY_STATE_TOTAL = ("auto", "header_link")  # walks of which the first answer may tell how many pages there are
_REQUEST_PARTS = ("param", "header", "body_path")


def exclusive(
    found: ParsedMap, keys: tuple[str, ...], context: ReadContext, hint: str = "keep one of them"
) -> None:
    """Notes the second of keys that say the same."""
    written = [key for key in keys if found.has(key)]
    for key in written[1:]:
        message = f"{written[0]} and {key} exclude each other"
        context.report(found.value_node(key), f"{found.field}.{key}", message, hint)


def check_auth(auth: ParsedMap, has_base_url: bool, context: ReadContext) -> None:
    """Credentials that are there, once."""
    for kind, one in (("bearer", "token"), ("api_key", "api_key")):
        exclusive(auth, (one, one + "s"), context, "put all of them into one list")
        lacking = auth.get("type") == kind and not (auth.has(one) or auth.has(one + "s"))
        if lacking and not context.has_problem(f"{auth.field}."):
            hint = f"{one}: ${{env:{one.upper()}}}"
            context.report(auth.node, auth.field, f"has neither {one} nor {one}s", hint)
    if auth.get("client_auth") == "basic" and not (auth.has("client_id") and auth.has("client_secret")):
        message = "basic sends client_id and client_secret"
        context.report(
            auth.value_node("client_auth"),
            f"{auth.field}.client_auth",
            message,
            "client_secret: ${env:CLIENT_SECRET}",
        )
    login = auth.get("login")
    if not isinstance(login, ParsedMap):
        return
    exclusive(login, ("data", "json"), context)
    if login.has("form") and login.has("json"):
        message = "a form is sent as data"
        context.report(login.value_node("json"), f"{login.field}.json", message, "data: {user: …}")
    path = login.get("path")
    if isinstance(path, str) and not path.startswith(("http://", "https://")) and not has_base_url:
        message = "a path needs client.base_url"
        context.report(
            login.value_node("path"), f"{login.field}.path", message, "a whole address, or base_url:"
        )


def check_paginator(paginator: ParsedMap, endpoint: ParsedMap, context: ReadContext) -> None:
    """Where a cursor or a number is sent, and whether all pages can be asked for at once."""
    kind = paginator.get("type")
    for what in ("cursor", "page", "offset", "limit"):
        exclusive(paginator, tuple(f"{what}_{place}" for place in _REQUEST_PARTS), context)
    field = paginator.field
    if kind == "header_cursor" and not any(paginator.has(f"cursor_{place}") for place in _REQUEST_PARTS):
        # behind `cursor` an object may stand, whose members become parameters: only the answer tells
        message = "does not say where the cursor is sent"
        context.report(paginator.node, field, message, "cursor_param: cursor")
    if kind == "offset" and not paginator.has("limit"):  # a page may be as long as the server likes
        needing = [f"limit_{place}" for place in _REQUEST_PARTS if paginator.has(f"limit_{place}")]
        needing += ["fan_out"] if paginator.get("fan_out") else []
        for key in needing:
            message = f"{key} needs limit, the number of records on a page"
            context.report(paginator.value_node(key), f"{field}.{key}", message, "limit: 100")
    if not paginator.get("fan_out"):
        return
    if isinstance(kind, str) and kind not in (*NUMBERED, *MAY_STATE_TOTAL):
        message = "all pages at once need numbers of pages"
        right = f"type: {', '.join(reversed(NUMBERED))}, {' or '.join(reversed(MAY_STATE_TOTAL))}"
        context.report(paginator.value_node("fan_out"), f"{field}.fan_out", message, right)
        return
    limit_key = "maximum_offset" if kind == "offset" else "maximum_page"
    if kind in NUMBERED and not (paginator.has("total_path") or paginator.has(limit_key)):
        message = "all pages at once need to be counted"
        context.report(
            paginator.value_node("fan_out"),
            f"{field}.fan_out",
            message,
            f"total_path: total, or {limit_key}:",
        )
    if endpoint.has("incremental"):
        message = "a walk that is resumed goes page by page"
        context.report(
            paginator.value_node("fan_out"),
            f"{field}.fan_out",
            message,
            "keep one of fan_out and incremental",
        )


def check_incremental(found: ParsedMap, context: ReadContext) -> None:
    """What is kept, and what that needs."""
    field = found.field
    if not (found.has("cursor_path") or found.has("token_path")):
        message = "has neither cursor_path nor token_path"
        context.report(found.node, field, message, "cursor_path: updated_at")
        return
    for key in ("initial_value", "lookback", "step"):
        if found.has(key) and not found.has("cursor_path"):
            message = f"{key} needs cursor_path"
            context.report(found.value_node(key), f"{field}.{key}", message, "cursor_path: updated_at")
    if not found.has("step") or not found.has("cursor_path"):
        return
    if not found.has("initial_value"):
        message = "windows need a beginning"
        context.report(found.value_node("step"), f"{field}.step", message, "initial_value: 2024-01-01")
    elif isinstance(found.get("initial_value"), str) and as_number(found.get("initial_value")) is None:
        message = f"'{found.value_node('initial_value').text}' is no time: windows need one"
        context.report(found.value_node("initial_value"), f"{field}.initial_value", message, "2024-01-01")


def check_incremental_use(use: ExpressionUse, owner: ParsedMap, context: ReadContext) -> None:
    """A use of `incremental` in a resource: it has one, and what is read of it is kept."""
    endpoint = owner.get("endpoint")
    inner = endpoint.get("incremental") if isinstance(endpoint, ParsedMap) else None
    if not isinstance(inner, ParsedMap):
        if not (isinstance(endpoint, ParsedMap) and endpoint.has("incremental")):
            message = "incremental is used, but this resource has none"
            context.report(use.node, use.field, message, "add incremental: under endpoint:")
        return
    for path in sorted(use.compiled.paths):
        if path[0] != "incremental":
            continue
        name = path[1] if len(path) > 1 else ""
        if name not in INCREMENTAL:
            near = did_you_mean(name, INCREMENTAL)
            hint = f"did you mean {near}?" if near else f"one of {', '.join(INCREMENTAL)}"
            message = f"incremental has no '{name}'" if name else "incremental alone is no value"
            context.report(use.node, use.field, message, hint)
            continue
        needed = "token_path" if name == "token" else "cursor_path"
        if not inner.has(needed):
            message = f"incremental.{name} needs {needed}"
            context.report(use.node, use.field, message, f"add {needed}: to incremental:")


def check_schedule(found: ParsedMap, resource: ParsedMap, context: ReadContext) -> None:
    """Either an interval or a cron line, of a resource that starts by itself."""
    exclusive(found, ("every", "cron"), context)
    if not (found.has("every") or found.has("cron")):
        context.report(found.node, found.field, "has neither every nor cron", "every: 15m")
    if found.has("timezone") and not found.has("cron"):
        message = "a time zone is that of a cron line"
        context.report(
            found.value_node("timezone"), f"{found.field}.timezone", message, "cron: 30 16 * * mon-fri"
        )
    if resource.has("parent") and not resource.has("seeds"):
        message = "this resource is started by its parent"
        context.report(found.node, found.field, message, "put the schedule where the tree begins")
    elif not resource.has("endpoint"):
        message = "this resource makes no request"
        context.report(found.node, found.field, message, "add endpoint:")
