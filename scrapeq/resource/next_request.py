"""The request of the next page: this one's, but for what the paginator changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from scrapeq.errors import UsageError
from scrapeq.expression import as_text
from scrapeq.plan import Paginator
from scrapeq.protocols import Change
from scrapeq.resource.address import clean, get_param, resolve, set_params, task_key
from scrapeq.resource.restart import key_after_restarts

FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the task carries it; `body` is text, its type stands in the headers."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass(frozen=True, slots=True)
class ParamPosition:
    """Where in a request a paginator puts a value: a parameter, a header, or a path into the body."""

    kind: Literal["param", "header", "body"]
    name: str

    def change(self, value: Any, remember: Mapping[str, Any] | None = None) -> Change:
        """The change that puts a value there."""
        if self.kind == "body":
            return Change(body={self.name: value}, remember=remember or {})
        if self.kind == "header":
            return Change(headers={self.name: as_text(value)}, remember=remember or {})
        return Change(params={self.name: value}, remember=remember or {})

    def current(self, request: Request) -> Any:
        """What the request has there; None when it has nothing."""
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
    """The place that is named; a parameter called `default` when none is."""
    if body_path:
        return ParamPosition("body", body_path)
    return ParamPosition("header", header) if header else ParamPosition("param", param or default)


def cursor_position(paginator: Paginator, default: str = "cursor") -> ParamPosition:
    """Where its cursor goes."""
    return param_position(paginator.cursor_param, paginator.cursor_header, paginator.cursor_body_path, default)


def page_position(paginator: Paginator) -> ParamPosition:
    """Where its page number goes."""
    return param_position(paginator.page_param, paginator.page_header, paginator.page_body_path, "page")


def offset_position(paginator: Paginator) -> ParamPosition:
    """Where its offset goes."""
    return param_position(paginator.offset_param, paginator.offset_header, paginator.offset_body_path, "offset")


def limit_position(paginator: Paginator) -> ParamPosition:
    """Where its page size goes."""
    return param_position(paginator.limit_param, paginator.limit_header, paginator.limit_body_path, "limit")


def with_first_page(request: Request, paginator: Paginator) -> Request:
    """
    The first request of a walk: with the first page's number, or the first offset and the page's size.

    What the resource itself says there stays.

    Raises:
        UsageError: there is no such place in the body.
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
    The request after a change.

    Args:
        request: The page's.
        change: What is other in the next one.
        base: Where the page came from, which a relative address begins at.

    Raises:
        UsageError: the address is no http(s) address, a header cannot be sent, or there is no such place in the body.
    """
    url, headers, body = request.url, request.headers, request.body
    if change.url:
        url = resolve(base, change.url)
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
    return Request(request.method, url, headers, body)


def request_of(payload: Mapping[str, Any]) -> Request:
    """The request that a payload holds."""
    return Request(
        payload.get("method", "GET"), payload["url"], payload.get("headers") or {}, payload.get("body")
    )


def payload_key(payload: Mapping[str, Any]) -> str:
    """
    The identity of a payload: its resource and its request, for two resources may read one answer, each in its way.

    Headers count where the paginator has set them (`walk.headers`).

    Raises:
        UsageError: its address is no http(s) address.
    """
    headers = payload.get("headers") or {}
    names = (payload.get("walk") or {}).get("headers") or ()
    significant = {name: headers[name] for name in names if name in headers}
    key = task_key(payload.get("method", "GET"), payload["url"], payload.get("body"), significant)
    return key_after_restarts(f"{payload['resource']} {key}", payload)


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
        # A line break in a value that comes from data would begin a header of its own (RFC 9110, 5.5).
        if any(letter in value for letter in "\r\n\0"):
            raise UsageError(f"headers: the value of {name} has a line break in it")
        result[name] = value
    return result


def is_form(headers: Mapping[str, str]) -> bool:
    """Whether the body is a form's."""
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    return kind.partition(";")[0].strip().lower() == FORM_TYPE


def _json(body: str) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        raise UsageError(
            "the paginator changes the request's body, which is neither JSON nor a form"
        ) from None


def _set_path(value: Any, path: str, new: Any) -> None:
    """Set the member at a dotted path (numbers count in lists); maps on the way are made, None removes."""
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
            f"the paginator's path {path!r} leads to no place in the request's body (at {step!r})"
        )
    return int(step)
