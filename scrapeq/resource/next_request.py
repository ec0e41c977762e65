"""The request of the next page: a copy of this one's, with the paginator's change applied. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from scrapeq.errors import UsageError
from scrapeq.expression import as_text
from scrapeq.plan import Paginator
from scrapeq.protocols import Change
from scrapeq.resource.address import (
    clean,
    get_param,
    param_names,
    resolve,
    set_params,
    task_key,
    without_downgrade,
)
from scrapeq.resource.payload import Payload
from scrapeq.resource.restart import key_after_restarts

FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"
PositionKind = Literal["param", "header", "body"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a task carries it; `body` is text, and its type is in the headers."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass(frozen=True, slots=True)
class ParamPosition:
    """The position in a request where a paginator puts a value: a parameter, a header, or a path into the body."""

    kind: PositionKind
    name: str

    def change(self, value: Any, remember: Mapping[str, Any] | None = None) -> Change:
        """Return the change that puts a value there."""
        if self.kind == "body":
            return Change(body={self.name: value}, remember=remember or {})
        if self.kind == "header":
            return Change(headers={self.name: as_text(value)}, remember=remember or {})
        return Change(params={self.name: value}, remember=remember or {})

    def current(self, request: Request) -> Any:
        """Return the value that the request has there; None if there is none."""
        if self.kind == "param":
            return get_param(request.url, self.name)
        if self.kind == "header":
            return next((v for k, v in request.headers.items() if k.lower() == self.name.lower()), None)
        if request.body is None:
            return None
        if is_form(request.headers):
            return get_param("?" + request.body, self.name)
        value = _json(request.body)
        for step in self.name.split("."):
            if isinstance(value, list):
                value = value[int(step)] if step.isdecimal() and int(step) < len(value) else None
            else:
                value = value.get(step) if isinstance(value, Mapping) else None
        return value


def param_position(param: str, header: str, body_path: str, default: str) -> ParamPosition:
    """Return the configured position; the parameter `default` if none is configured."""
    if body_path:
        return ParamPosition("body", body_path)
    return ParamPosition("header", header) if header else ParamPosition("param", param or default)


def cursor_position(paginator: Paginator, default: str = "cursor") -> ParamPosition:
    """Return where the cursor goes."""
    return param_position(
        paginator.cursor_param, paginator.cursor_header, paginator.cursor_body_path, default
    )


def page_position(paginator: Paginator) -> ParamPosition:
    """Return where the page number goes."""
    return param_position(paginator.page_param, paginator.page_header, paginator.page_body_path, "page")


def offset_position(paginator: Paginator) -> ParamPosition:
    """Return where the offset goes."""
    return param_position(
        paginator.offset_param, paginator.offset_header, paginator.offset_body_path, "offset"
    )


def limit_position(paginator: Paginator) -> ParamPosition:
    """Return where the page size goes."""
    return param_position(paginator.limit_param, paginator.limit_header, paginator.limit_body_path, "limit")


def with_first_page(request: Request, paginator: Paginator) -> Request:
    """
    Return the request of the first page, with its page number, or its offset and page size.

    Values that the resource itself sets stay.

    Raises:
        UsageError: the request's body has no such position.
    """
    if paginator.type == "page_number":
        initial = [(page_position(paginator), paginator.base_page)]
    elif paginator.type == "offset":
        initial = [(offset_position(paginator), paginator.offset)]
        if paginator.limit is not None:
            initial.append((limit_position(paginator), paginator.limit))
    else:
        return request
    for position, value in initial:
        if position.current(request) is None:
            request = apply_change(request, position.change(value), request.url)
    return request


def apply_change(request: Request, change: Change, base: str) -> Request:
    """
    Return the request with a change applied.

    Args:
        request: The page's request.
        change: What differs in the next one.
        base: The page's URL, which relative URLs refer to.

    Raises:
        UsageError: the URL is not an http(s) URL, a header cannot be sent, or the body has no such position.
    """
    url, headers, body = request.url, request.headers, request.body
    if change.url:
        url = without_downgrade(base, resolve(base, change.url))
    if change.params:
        url = clean(set_params(url, {name: _as_texts(value) for name, value in change.params.items()}))
    if change.headers:
        headers = _apply_headers(headers, change.headers)
    if change.body:
        if is_form(headers):
            fields = {name: _as_texts(value) for name, value in change.body.items()}
            body = set_params("?" + (body or ""), fields).partition("?")[2]
        else:
            value = _json(body) if body else {}
            for path, new in change.body.items():
                _set_path(value, path, new)
            body = orjson.dumps(value).decode()
            if not any(name.lower() == "content-type" for name in headers):
                headers = {**headers, "Content-Type": JSON_TYPE}
    method = change.method.upper() or request.method
    return Request(method, url, headers, None if method == "GET" != request.method else body)


def member_names(request: Request) -> list[str]:
    """Return the names of the fields of a form, or of the members of a JSON object; empty for any other body."""
    if not request.body:
        return []
    if is_form(request.headers):
        return param_names("?" + request.body)
    try:
        body = orjson.loads(request.body)
    except ValueError:
        return []
    return list(body) if isinstance(body, dict) else []


def request_of(payload: Payload) -> Request:
    """Return the request of a payload."""
    return Request(
        payload.get("method", "GET"), payload["url"], payload.get("headers") or {}, payload.get("body")
    )


def payload_key(payload: Payload) -> str:
    """
    Return the identity of a payload: its resource and its request.

    Two resources may read the same response, each in its own way. Headers count if the paginator sets them
    (`walk.headers`). Pages after one that is missing have another identity, because a redrive of that one requests them
    again.

    Raises:
        UsageError: its URL is not an http(s) URL.
    """
    headers = payload.get("headers") or {}
    walk = payload.get("walk") or {}
    names = walk.get("headers") or ()
    significant = {name: headers[name] for name in names if name in headers}
    key = task_key(payload.get("method", "GET"), payload["url"], payload.get("body"), significant)
    incomplete = " incomplete" if walk.get("incomplete") else ""
    return key_after_restarts(f"{payload['resource']} {key}{incomplete}", payload)


def _as_texts(value: Any) -> str | list[str] | None:
    if isinstance(value, list | tuple):
        return [text for text in (as_text(one) for one in value) if text is not None]
    return as_text(value)


def _apply_headers(headers: Mapping[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    lowered = {name.lower() for name in change}
    result = {name: value for name, value in headers.items() if name.lower() not in lowered}
    for name, value in change.items():
        if value is None:
            continue
        # The value comes from data: a line break in it would start another header (RFC 9110, 5.5).
        if any(letter in value for letter in "\r\n\0"):
            raise UsageError(f"headers: the value of {name} contains a line break")
        result[name] = value
    return result


def is_form(headers: Mapping[str, str]) -> bool:
    """Return whether the body is a form."""
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    return kind.partition(";")[0].strip().lower() == FORM_TYPE


def _json(body: str) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        raise UsageError(
            "the paginator changes the request's body, but the body is neither JSON nor a form"
        ) from None


def _set_path(value: Any, path: str, new: Any) -> None:
    """Set the member at a dotted path (numbers index lists); missing maps are created, None removes."""
    *way, last = path.split(".")
    for step in way:
        if isinstance(value, dict):
            if value.get(step) is None:
                value[step] = {}
            value = value[step]
        else:
            value = value[_index(value, step, path)]
    if isinstance(value, dict):
        if new is None:
            value.pop(last, None)
        else:
            value[last] = new
    else:
        value[_index(value, last, path)] = new


def _index(value: Any, step: str, path: str) -> int:
    if (
        not isinstance(value, Sequence)
        or isinstance(value, str)
        or not step.isdecimal()
        or int(step) >= len(value)
    ):
        raise UsageError(
            f"the request's body has no position {path!r} for the paginator's value: {step!r} is missing"
        )
    return int(step)
