"""Where in a request `auto` puts a cursor, a page number or an offset. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import orjson

from scrapeq.extract import known_names as names
from scrapeq.extract.autodetect.signals import looks_like_number
from scrapeq.extract.known_names import normalize
from scrapeq.extract.paginators import FetchedPage
from scrapeq.resource.address import get_param
from scrapeq.resource.next_request import ParamPosition, is_form

_BODY_DEPTH = 3  # levels of a JSON body that may hold a page size
_GRAPHQL_VARIABLE = re.compile(r"\$(\w+)\s*:")


def numbered_position(fetched: FetchedPage, known: Sequence[str]) -> ParamPosition | None:
    """Return the position where the request has a page number or an offset."""
    if fetched.request.body is None and "?" not in fetched.request.url:
        return None
    for position in positions(fetched, known):
        if looks_like_number(position.current(fetched.request)):
            return position
    return None


def positions(fetched: FetchedPage, known: Sequence[str]) -> list[ParamPosition]:
    """Return the positions where the request may have parameters of these names."""
    request = fetched.request
    if request.body is not None and request.method != "GET":
        found = [ParamPosition("body", name) for name in known if "." not in name]
        if not is_form(request.headers):
            found += [ParamPosition("body", f"variables.{name}") for name in known]
        if not _is_readable(fetched):
            found = []
    else:
        found = []
    return [*found, *(ParamPosition("param", name) for name in known)]


def _is_readable(fetched: FetchedPage) -> bool:
    """Return whether the request's body can be changed: it is a form or a JSON object."""
    request = fetched.request
    if is_form(request.headers):
        return True
    try:
        return isinstance(orjson.loads(request.body or ""), dict)
    except ValueError:
        return False


def requested_values(fetched: FetchedPage) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the request: parameters, the fields of a form, the members of a JSON body."""
    request = fetched.request
    yield from parse_qsl(urlsplit(request.url).query)
    if request.body is None:
        return
    if is_form(request.headers):
        yield from parse_qsl(request.body)
        return
    try:
        level = [orjson.loads(request.body)]
    except ValueError:
        return
    for _ in range(_BODY_DEPTH):
        members = [pair for value in level if isinstance(value, Mapping) for pair in value.items()]
        yield from members
        level = [value for _, value in members]


def cursor_position_in(fetched: FetchedPage, known: names.CursorName) -> ParamPosition:
    """Return the position of a cursor: one that the request already has, or else the usual one."""
    request = fetched.request
    candidates = {normalize(known.default), *known.others}
    query = urlsplit(request.url).query
    if query:
        for piece in query.split("&"):
            name = unquote_plus(piece.partition("=")[0])
            if normalize(name) in candidates and get_param(request.url, name) is not None:
                return ParamPosition("param", name)
    if request.body is None or request.method == "GET" or not _is_readable(fetched):
        return ParamPosition("param", known.default)
    if is_form(request.headers):
        return ParamPosition("body", known.default)
    body = orjson.loads(request.body)
    for name in body:
        if normalize(name) in candidates:
            return ParamPosition("body", name)
    if isinstance(body.get("query"), str):  # GraphQL: the query declares its variables
        for name in [*(body.get("variables") or {}), *_GRAPHQL_VARIABLE.findall(body["query"])]:
            if normalize(name) in candidates:
                return ParamPosition("body", f"variables.{name}")
    return ParamPosition("body", known.default)


def describe_position(position: ParamPosition) -> str:
    """Describe a position for the user."""
    where = {"param": "as the parameter", "header": "in the header", "body": "in the body as"}[position.kind]
    return f"sent {where} {position.name}"


def members_position(fetched: FetchedPage) -> ParamPosition:
    """Return where the members of a cursor that is an object go: into the body of a POST, or else the parameters."""
    request = fetched.request
    in_body = request.body is not None and request.method != "GET" and _is_readable(fetched)
    return ParamPosition("body" if in_body else "param", "")


def requested_body(fetched: FetchedPage) -> Mapping[str, Any]:
    """Return the JSON body of the request; empty if it has none."""
    request = fetched.request
    if request.body is None or is_form(request.headers) or not _is_readable(fetched):
        return {}
    body: Mapping[str, Any] = orjson.loads(request.body)
    return body


def known_param(body: Any, steps: Sequence[Any]) -> str:
    """Return the parameter of well-known APIs, recognized by their responses; empty for others."""
    if not isinstance(body, Mapping):
        return ""
    where = tuple(steps)
    if where[:1] == ("ListBucketResult",) and len(where) == 2:  # S3
        return "continuation-token" if where[1] == "NextContinuationToken" else "marker"
    if where == ("EnumerationResults", "NextMarker"):  # Azure Storage
        return "marker"
    if where == ("next_cursor",) and body.get("object") == "list":  # Notion
        return "start_cursor"
    if where == ("pagination", "cursor") and body.keys() == {"data", "pagination"}:  # Twitch
        return "after"
    if where == ("skip",) and body.keys() == {"total", "limit", "skip", "data"}:  # FeathersJS
        return "$skip"
    if where == ("offset",) and body.keys() == {"total_rows", "offset", "rows"}:  # CouchDB
        return "skip"
    if where[:2] == ("meta", "pagination") and body.keys() >= {"data", "meta"}:  # Strapi
        members = body["meta"]["pagination"].keys()
        if where[2:] == ("page",) and members >= {"pageSize", "pageCount"}:
            return "pagination[page]"
        if where[2:] == ("start",) and members >= {"limit", "total"}:
            return "pagination[start]"
    return ""


def is_spring(body: Any) -> bool:
    """Return whether this is a page of Spring Data."""
    return isinstance(body, Mapping) and ("pageable" in body or "totalElements" in body)


def is_elasticsearch(body: Any) -> bool:
    """Return whether this is a search response of Elasticsearch or OpenSearch."""
    return isinstance(body, Mapping) and "took" in body and isinstance(body.get("hits"), Mapping)
