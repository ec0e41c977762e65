"""What the parts of one request say of each other: credentials, the walk over pages, what is new, when it is due."""

from __future__ import annotations

from scrapeq.config.expression_scopes import INCREMENTAL
from scrapeq.config.read_context import Reading, Use
from scrapeq.config.records import Found
from scrapeq.expression import as_number, did_you_mean

COUNTED = ("offset", "page_number")  # walks whose pages have numbers: all of them can be asked for at once
TELLING = ("auto", "header_link")  # walks of which the first answer may tell how many pages there are
_SENT = ("param", "header", "body_path")


def exclusive(found: Found, keys: tuple[str, ...], reading: Reading, hint: str = "keep one of them") -> None:
    """Notes the second of keys that say the same."""
    written = [key for key in keys if found.has(key)]
    for key in written[1:]:
        message = f"{written[0]} and {key} exclude each other"
        reading.note(found.at(key), f"{found.field}.{key}", message, hint)


def check_auth(auth: Found, has_base_url: bool, reading: Reading) -> None:
    """Credentials that are there, once."""
    for kind, one in (("bearer", "token"), ("api_key", "api_key")):
        exclusive(auth, (one, one + "s"), reading, "put all of them into one list")
        lacking = auth.get("type") == kind and not (auth.has(one) or auth.has(one + "s"))
        if lacking and not reading.has_problem(f"{auth.field}."):
            hint = f"{one}: ${{env:{one.upper()}}}"
            reading.note(auth.node, auth.field, f"has neither {one} nor {one}s", hint)
    if auth.get("client_auth") == "basic" and not (auth.has("client_id") and auth.has("client_secret")):
        message = "basic sends client_id and client_secret"
        reading.note(
            auth.at("client_auth"),
            f"{auth.field}.client_auth",
            message,
            "client_secret: ${env:CLIENT_SECRET}",
        )
    login = auth.get("login")
    if not isinstance(login, Found):
        return
    exclusive(login, ("data", "json"), reading)
    if login.has("form") and login.has("json"):
        message = "a form is sent as data"
        reading.note(login.at("json"), f"{login.field}.json", message, "data: {user: …}")
    path = login.get("path")
    if isinstance(path, str) and not path.startswith(("http://", "https://")) and not has_base_url:
        message = "a path needs client.base_url"
        reading.note(login.at("path"), f"{login.field}.path", message, "a whole address, or base_url:")


def check_paginator(paginator: Found, endpoint: Found, reading: Reading) -> None:
    """Where a cursor or a number is sent, and whether all pages can be asked for at once."""
    kind = paginator.get("type")
    for what in ("cursor", "page", "offset", "limit"):
        exclusive(paginator, tuple(f"{what}_{place}" for place in _SENT), reading)
    field = paginator.field
    if kind == "header_cursor" and not any(paginator.has(f"cursor_{place}") for place in _SENT):
        # behind `cursor` an object may stand, whose members become parameters: only the answer tells
        message = "does not say where the cursor is sent"
        reading.note(paginator.node, field, message, "cursor_param: cursor")
    if kind == "offset" and not paginator.has("limit"):  # a page may be as long as the server likes
        needing = [f"limit_{place}" for place in _SENT if paginator.has(f"limit_{place}")]
        needing += ["fan_out"] if paginator.get("fan_out") else []
        for key in needing:
            message = f"{key} needs limit, the number of records on a page"
            reading.note(paginator.at(key), f"{field}.{key}", message, "limit: 100")
    if not paginator.get("fan_out"):
        return
    if isinstance(kind, str) and kind not in (*COUNTED, *TELLING):
        message = "all pages at once need numbers of pages"
        right = f"type: {', '.join(reversed(COUNTED))}, {' or '.join(reversed(TELLING))}"
        reading.note(paginator.at("fan_out"), f"{field}.fan_out", message, right)
        return
    most = "maximum_offset" if kind == "offset" else "maximum_page"
    if kind in COUNTED and not (paginator.has("total_path") or paginator.has(most)):
        message = "all pages at once need to be counted"
        reading.note(paginator.at("fan_out"), f"{field}.fan_out", message, f"total_path: total, or {most}:")
    if endpoint.has("incremental"):
        message = "a walk that is resumed goes page by page"
        reading.note(
            paginator.at("fan_out"), f"{field}.fan_out", message, "keep one of fan_out and incremental"
        )


def check_incremental(found: Found, reading: Reading) -> None:
    """What is kept, and what that needs."""
    field = found.field
    if not (found.has("cursor_path") or found.has("token_path")):
        message = "has neither cursor_path nor token_path"
        reading.note(found.node, field, message, "cursor_path: updated_at")
        return
    for key in ("initial_value", "lookback", "step"):
        if found.has(key) and not found.has("cursor_path"):
            message = f"{key} needs cursor_path"
            reading.note(found.at(key), f"{field}.{key}", message, "cursor_path: updated_at")
    if not found.has("step") or not found.has("cursor_path"):
        return
    if not found.has("initial_value"):
        message = "windows need a beginning"
        reading.note(found.at("step"), f"{field}.step", message, "initial_value: 2024-01-01")
    elif isinstance(found.get("initial_value"), str) and as_number(found.get("initial_value")) is None:
        message = f"'{found.at('initial_value').text}' is no time: windows need one"
        reading.note(found.at("initial_value"), f"{field}.initial_value", message, "2024-01-01")


def check_incremental_use(use: Use, owner: Found, reading: Reading) -> None:
    """A use of `incremental` in a resource: it has one, and what is read of it is kept."""
    endpoint = owner.get("endpoint")
    inner = endpoint.get("incremental") if isinstance(endpoint, Found) else None
    if not isinstance(inner, Found):
        if not (isinstance(endpoint, Found) and endpoint.has("incremental")):
            message = "incremental is used, but this resource has none"
            reading.note(use.node, use.field, message, "add incremental: under endpoint:")
        return
    for path in sorted(use.compiled.paths):
        if path[0] != "incremental":
            continue
        name = path[1] if len(path) > 1 else ""
        if name not in INCREMENTAL:
            near = did_you_mean(name, INCREMENTAL)
            hint = f"did you mean {near}?" if near else f"one of {', '.join(INCREMENTAL)}"
            message = f"incremental has no '{name}'" if name else "incremental alone is no value"
            reading.note(use.node, use.field, message, hint)
            continue
        needed = "token_path" if name == "token" else "cursor_path"
        if not inner.has(needed):
            message = f"incremental.{name} needs {needed}"
            reading.note(use.node, use.field, message, f"add {needed}: to incremental:")


def check_schedule(found: Found, resource: Found, reading: Reading) -> None:
    """Either an interval or a cron line, of a resource that starts by itself."""
    exclusive(found, ("every", "cron"), reading)
    if not (found.has("every") or found.has("cron")):
        reading.note(found.node, found.field, "has neither every nor cron", "every: 15m")
    if found.has("timezone") and not found.has("cron"):
        message = "a time zone is that of a cron line"
        reading.note(found.at("timezone"), f"{found.field}.timezone", message, "cron: 30 16 * * mon-fri")
    if resource.has("parent") and not resource.has("seeds"):
        message = "this resource is started by its parent"
        reading.note(found.node, found.field, message, "put the schedule where the tree begins")
    elif not resource.has("endpoint"):
        message = "this resource makes no request"
        reading.note(found.node, found.field, message, "add endpoint:")
