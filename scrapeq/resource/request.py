"""Builds a request from an endpoint and the values of its placeholders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from scrapeq.errors import UsageError
from scrapeq.expression import Template, as_text
from scrapeq.plan import Client, Endpoint
from scrapeq.resource.address import clean, encode_params, join, with_params
from scrapeq.resource.next_request import FORM_TYPE, JSON_TYPE, Request, with_first_page


class _Omitted:
    """What a null placeholder renders to: its key is not sent."""


_OMITTED = _Omitted()


def build_request(client: Client, endpoint: Endpoint, scope: Mapping[str, Any]) -> Request | None:
    """
    Fill in the placeholders of an endpoint.

    Returns:
        None if a value in the path or URL is null: there is nothing to request.

    Raises:
        UsageError: the values make an invalid URL, header or body.
    """
    url = _build_url(client, endpoint, scope)
    if url is None:
        return None
    pairs = _text_pairs({**client.params, **endpoint.params}, scope)
    url = with_params(url, pairs)
    headers = dict(_build_headers(endpoint.headers, scope))
    body = _build_body(endpoint, scope, headers)
    return with_first_page(Request(endpoint.method.upper(), clean(url), headers, body), endpoint.paginator)


def _build_url(client: Client, endpoint: Endpoint, scope: Mapping[str, Any]) -> str | None:
    if endpoint.url is not None:
        return endpoint.url.render_url(scope) or None
    base = client.base_url
    if endpoint.path is None:
        seed = scope.get("seed")
        template = seed.get("url") if isinstance(seed, Mapping) else None
        if isinstance(template, str) and template:
            return template
    if base.startswith("demo:"):
        raise UsageError(
            "demo:// is a placeholder: replace it by the URL of the sample API before requests are built"
        )
    if endpoint.path is None:
        return base
    path = endpoint.path.render_path(scope)
    return None if path is None else join(base, path)


def _text_pairs(params: Mapping[str, Any], scope: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and values as text: null is left out, a list repeats its name."""
    for name, template in params.items():
        value = _render(template, scope)
        for element in value if isinstance(value, list | tuple) else (value,):
            text = None if element is _OMITTED else as_text(element)
            if text is not None:
                yield name, text


def _build_headers(headers: Mapping[str, Any], scope: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in _text_pairs(headers, scope):
        # The value may come from data: a line break in it would start another header (RFC 9110, 5.5).
        if any(letter in value for letter in "\r\n\0"):
            raise UsageError(f"headers: the value of {name} contains a line break")
        yield name, value


def _build_body(endpoint: Endpoint, scope: Mapping[str, Any], headers: dict[str, str]) -> str | None:
    if endpoint.json is not None:
        kind, value = JSON_TYPE, _render(endpoint.json, scope)
        body = _json_text(None if value is _OMITTED else value)
    elif endpoint.data is not None:
        if isinstance(endpoint.data, Mapping):
            kind, body = FORM_TYPE, encode_params(_text_pairs(endpoint.data, scope))
        else:
            kind, value = "", _render(endpoint.data, scope)
            body = "" if value is _OMITTED else as_text(value) or ""
    else:
        return None
    if kind and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = kind
    return body


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value, default=dict).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"json: the value cannot be written as JSON: {error}") from None


def _render(value: Any, scope: Mapping[str, Any]) -> Any:
    """Fill in placeholders at any depth: a null placeholder is omitted with its key, a null in the file stays."""
    if isinstance(value, Template):
        rendered = value.render(scope)
        return _OMITTED if rendered is None else rendered
    if isinstance(value, Mapping):
        filled = ((name, _render(element, scope)) for name, element in value.items())
        return {name: element for name, element in filled if element is not _OMITTED}
    if isinstance(value, list | tuple):
        return [element for element in (_render(each, scope) for each in value) if element is not _OMITTED]
    return value
