"""Checks of related keys of a resource and its requests: auth, paginator, incremental, schedule."""

from __future__ import annotations

from datetime import datetime

from scrapeq.config.expression_scopes import INCREMENTAL
from scrapeq.config.read_context import ExpressionUse, ReadContext
from scrapeq.config.records import ParsedMap
from scrapeq.expression import as_number, did_you_mean

NUMBERED = ("offset", "page_number")  # types that can request any page directly
MAY_STATE_TOTAL = ("auto", "header_link")  # types whose first response may state the number of pages
_REQUEST_PARTS = ("param", "header", "body_path")


def check_exclusive(
    found: ParsedMap, keys: tuple[str, ...], context: ReadContext, hint: str = "keep one of them"
) -> None:
    """Report all but the first of several mutually exclusive keys."""
    written = [key for key in keys if found.has(key)]
    for key in written[1:]:
        message = f"{written[0]} and {key} are mutually exclusive"
        context.report(found.value_node(key), f"{found.field}.{key}", message, hint)


def check_auth(auth: ParsedMap, has_base_url: bool, context: ReadContext) -> None:
    """Check that the credentials of an auth are complete and given once."""
    for kind, key in (("bearer", "token"), ("api_key", "api_key")):
        check_exclusive(auth, (key, key + "s"), context, "put all of them in one list")
        is_missing = auth.get("type") == kind and not (auth.has(key) or auth.has(key + "s"))
        if is_missing and not context.has_problem(f"{auth.field}."):
            hint = f"{key}: ${{env:{key.upper()}}}"
            context.report(auth.node, auth.field, f"has neither {key} nor {key}s", hint)
    if auth.get("client_auth") == "basic" and not (auth.has("client_id") and auth.has("client_secret")):
        message = "basic needs client_id and client_secret"
        hint = "client_secret: ${env:CLIENT_SECRET}"
        context.report(auth.value_node("client_auth"), f"{auth.field}.client_auth", message, hint)
    login = auth.get("login")
    if not isinstance(login, ParsedMap):
        return
    check_exclusive(login, ("data", "json"), context)
    if login.has("form") and login.has("json"):
        message = "a form is sent as data, not as json"
        context.report(login.value_node("json"), f"{login.field}.json", message, "data: {user: …}")
    path = login.get("path")
    if isinstance(path, str) and not path.startswith(("http://", "https://")) and not has_base_url:
        message = "a path needs client.base_url"
        hint = "write a full URL, or add base_url:"
        context.report(login.value_node("path"), f"{login.field}.path", message, hint)


def check_paginator(paginator: ParsedMap, endpoint: ParsedMap, context: ReadContext) -> None:
    """Check where a paginator sends its values, and whether it can request all pages at once."""
    kind = paginator.get("type")
    for value in ("cursor", "page", "offset", "limit"):
        check_exclusive(paginator, tuple(f"{value}_{part}" for part in _REQUEST_PARTS), context)
    field = paginator.field
    if kind == "header_cursor" and not any(paginator.has(f"cursor_{part}") for part in _REQUEST_PARTS):
        # The type `cursor` needs none of them: if the response holds an object, its members become parameters.
        message = "does not say where to send the cursor"
        context.report(paginator.node, field, message, "cursor_param: cursor")
    if kind == "offset" and not paginator.has("limit"):  # the server may choose the page size
        needing = [f"limit_{part}" for part in _REQUEST_PARTS if paginator.has(f"limit_{part}")]
        needing += ["fan_out"] if paginator.get("fan_out") else []
        for key in needing:
            message = f"{key} needs limit, the number of records per page"
            context.report(paginator.value_node(key), f"{field}.{key}", message, "limit: 100")
    if not paginator.get("fan_out"):
        return
    if isinstance(kind, str) and kind not in (*NUMBERED, *MAY_STATE_TOTAL):
        message = "fan_out needs a paginator type with numbered pages"
        hint = f"type: {', '.join(reversed(NUMBERED))}, {' or '.join(reversed(MAY_STATE_TOTAL))}"
        context.report(paginator.value_node("fan_out"), f"{field}.fan_out", message, hint)
        return
    limit_key = "maximum_offset" if kind == "offset" else "maximum_page"
    if kind in NUMBERED and not (paginator.has("total_path") or paginator.has(limit_key)):
        message = "fan_out needs to know the number of pages"
        hint = f"total_path: total, or {limit_key}:"
        context.report(paginator.value_node("fan_out"), f"{field}.fan_out", message, hint)
    if endpoint.has("incremental"):
        message = "fan_out and incremental are mutually exclusive: incremental requests page by page"
        context.report(paginator.value_node("fan_out"), f"{field}.fan_out", message, "keep one of them")


def check_incremental(found: ParsedMap, context: ReadContext) -> None:
    """Check that an `incremental` names what to store, and has the keys that its other keys need."""
    field = found.field
    if not (found.has("cursor_path") or found.has("token_path")):
        message = "has neither cursor_path nor token_path"
        context.report(found.node, field, message, "cursor_path: updated_at")
        return
    for key in ("initial_value", "lookback", "step", "cursor_format"):
        if found.has(key) and not found.has("cursor_path"):
            message = f"{key} needs cursor_path"
            context.report(found.value_node(key), f"{field}.{key}", message, "cursor_path: updated_at")
    if not found.has("step") or not found.has("cursor_path"):
        return
    if not found.has("initial_value"):
        message = "step needs initial_value, the start of the first window"
        context.report(found.value_node("step"), f"{field}.step", message, "initial_value: 2024-01-01")
    elif isinstance(found.get("initial_value"), str) and not _is_time(found):
        message = f"'{found.value_node('initial_value').text}' is not a time, but step needs one"
        context.report(found.value_node("initial_value"), f"{field}.initial_value", message, "2024-01-01")


def _is_time(found: ParsedMap) -> bool:
    """Return whether the text of `initial_value` is a number or a time, perhaps in the declared form."""
    initial = found.get("initial_value")
    if as_number(initial) is not None:
        return True
    try:
        datetime.strptime(initial, found.get("cursor_format") or "")
    except ValueError:
        return False
    return True


def check_incremental_use(use: ExpressionUse, owner: ParsedMap, context: ReadContext) -> None:
    """Check that a resource whose expression uses `incremental` stores the value that is read."""
    endpoint = owner.get("endpoint")
    inner = endpoint.get("incremental") if isinstance(endpoint, ParsedMap) else None
    if not isinstance(inner, ParsedMap):
        if not (isinstance(endpoint, ParsedMap) and endpoint.has("incremental")):
            message = "incremental is used, but this resource does not define it"
            context.report(use.node, use.field, message, "add incremental: under endpoint:")
        return
    for path in sorted(use.compiled.paths):
        if path[0] != "incremental":
            continue
        name = path[1] if len(path) > 1 else ""
        if name not in INCREMENTAL:
            near = did_you_mean(name, INCREMENTAL)
            hint = f"did you mean {near}?" if near else f"one of {', '.join(INCREMENTAL)}"
            message = f"unknown name 'incremental.{name}'" if name else "incremental itself is not a value"
            context.report(use.node, use.field, message, hint)
            continue
        needed = "token_path" if name == "token" else "cursor_path"
        if not inner.has(needed):
            message = f"incremental.{name} needs {needed}"
            context.report(use.node, use.field, message, f"add {needed}: to incremental:")


def check_schedule(found: ParsedMap, resource: ParsedMap, context: ReadContext) -> None:
    """Check that a schedule has either an interval or a cron expression, and that its resource sends requests."""
    check_exclusive(found, ("every", "cron"), context)
    if not (found.has("every") or found.has("cron")):
        context.report(found.node, found.field, "has neither every nor cron", "every: 15m")
    if found.has("timezone") and not found.has("cron"):
        message = "timezone needs cron"
        hint = "cron: 30 16 * * mon-fri"
        context.report(found.value_node("timezone"), f"{found.field}.timezone", message, hint)
    if resource.has("parent") and not resource.has("seeds"):
        message = "this resource is started by its parent"
        hint = "put the schedule on the resource at the root of the tree"
        context.report(found.node, found.field, message, hint)
    elif not resource.has("endpoint"):
        message = "this resource sends no requests"
        context.report(found.node, found.field, message, "add endpoint:")
