"""The language: every key, the shape of its value, and which keys this version knows but refuses."""

from __future__ import annotations

from functools import cache
from typing import Any

from scrapeq.config import places
from scrapeq.config.limit_terms import PriorityLine, WeightTerm, Zone
from scrapeq.config.paths import Path
from scrapeq.config.records import Key, ListOf, MapOf, Record, TypedRecord, learn_places, unbuilt
from scrapeq.config.shapes import (
    Choice,
    Duration,
    Expr,
    Flag,
    Json,
    Number,
    Secret,
    Size,
    TemplateText,
    Text,
)
from scrapeq.config.terms import (
    BaseUrl,
    Field,
    Glob,
    Observe,
    ParamMap,
    PlainMap,
    RedisUrl,
    Seeds,
    Status,
    Tokens,
    Version,
    WaitTerm,
)

MAX_WORKERS = 256
MAX_CONCURRENCY = 10_000
NAME = r"[a-z0-9_-]{1,64}"
RESOURCE_NAME = r"[A-Za-z0-9_-]{1,64}"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
EXCEPTIONS = ("timeout", "connection", "bad_answer", "too_large")
BUILT_ACTIONS = ("success", "ignore", "retry", "rate_limited", "dead_letter", "fail")
LATER_ACTIONS = ("poll", "refresh_auth", "reset_pagination")

_TEXT = Text()
_NAMES = ListOf(Text(), single=True)


def _client() -> Record:
    later_auth = ("oauth2_client_credentials", "oauth2_refresh_token", "session")
    auth = TypedRecord(
        Choice(("none", "bearer", "api_key", "http_basic"), later_auth),
        {},
        {
            "none": {},
            "bearer": {"token": Key(Secret()), "tokens": Key(Tokens())},
            "api_key": {
                "name": Key(_TEXT, required=True, hint="name: X-Api-Key"),
                "location": Key(Choice(("header", "query", "cookie"))),
                "api_key": Key(Secret()),
                "api_keys": Key(Tokens()),
            },
            "http_basic": {
                "username": Key(Secret(allow_empty=True), required=True),
                "password": Key(Secret(allow_empty=True)),
            },
        },
        short=True,
    )
    return Record(
        {
            "base_url": Key(BaseUrl()),
            "user_agent": Key(_TEXT),
            "headers": Key(PlainMap(secret_names=True, stored=False)),
            "params": Key(PlainMap()),
            "timeout": Key(Duration()),
            "max_body_size": Key(Size()),
            "auth": Key(auth),
            "allow_hosts": Key(
                ListOf(Text(r"(?!\w+://)[^/\s@]+", "a host, such as files.acme.test"), single=True)
            ),
            "http2": unbuilt("requests are sent as HTTP/1.1"),
            "cache": unbuilt("every page is fetched whole"),
        }
    )


def _match(*, answer: bool) -> Record:
    keys = {
        "resource": Key(_NAMES),
        "method": Key(ListOf(Choice(METHODS, fold=True), single=True)),
        "host": Key(ListOf(Glob(), single=True)),
        "path": Key(ListOf(Glob(), single=True)),
    }
    if answer:
        keys["status"] = Key(ListOf(Status(), single=True))
        keys["exception"] = Key(ListOf(Choice(EXCEPTIONS), single=True))
        keys["when"] = Key(Expr(places.ANSWER))
    return Record(keys)


def _rate_limits() -> ListOf:
    rate = Record(
        {
            "limit": Key(
                Number(0, more=True, fractions=True), required=True, hint="{limit: 30, interval: 1m}"
            ),
            "interval": Key(Duration(), required=True, hint="{limit: 30, interval: 1m}"),
            "burst": Key(Number()),
            "aligned": Key(Zone()),
        }
    )
    partition = r"host|token|resource|(seed|parent)\.[A-Za-z_]\w*"
    weight = Record(
        {
            "match": Key(_match(answer=True), required=True, hint="{match: {status: 304}, weight: 0}"),
            "weight": Key(WeightTerm(), required=True, hint="{match: {status: 304}, weight: 0}"),
        }
    )
    reserve = Record(
        {
            "fraction": Key(
                Number(0, 0.999, more=True, fractions=True),
                required=True,
                hint="{fraction: 0.1, min_priority: now - 1d}",
            ),
            "min_priority": Key(PriorityLine(), required=True, hint="min_priority: now - 1d"),
        }
    )
    limit = Record(
        {
            "name": Key(
                Text(RESOURCE_NAME, "a name of letters, digits, _ and -"), required=True, hint="name: core"
            ),
            "match": Key(_match(answer=False)),
            "partition_by": Key(
                ListOf(Text(partition, "one of host, token, resource, seed.x, parent.x"), single=True)
            ),
            "rates": Key(ListOf(rate)),
            "max_concurrency": Key(Number(1, MAX_CONCURRENCY)),
            "observe": Key(Observe()),
            "weights": Key(ListOf(weight)),
            "reserve": Key(reserve),
        }
    )
    return ListOf(limit, wanted="- {name: core, rates: [{limit: 30, interval: 1m}]}")


def _actions() -> ListOf:
    action = Record(
        {
            "match": Key(_match(answer=True), required=True, hint="match: {status: 403}"),
            "action": Key(Choice(BUILT_ACTIONS, LATER_ACTIONS), required=True, hint="action: retry"),
            "scope": Key(_TEXT),
            "wait": Key(ListOf(WaitTerm(), single=True)),
            "max_wait": Key(Duration()),
            "on_exceed": Key(Choice(("park", "dead_letter", "stop"))),
            "message": Key(TemplateText(places.ANSWER)),
        }
    )
    return ListOf(action, wanted="- {match: {status: 403}, action: retry}")


def _paginator() -> TypedRecord:
    later = ("json_link", "header_cursor", "offset", "auto")
    whole = Number()
    return TypedRecord(
        Choice(("header_link", "page_number", "cursor", "single_page"), later),
        {
            "stop_when": Key(Expr(places.PAGE)),
            "max_pages": Key(whole),
            "has_more_path": Key(Path()),
            "stop_after_empty_page": Key(Flag()),
            "priority": Key(Expr(places.RECORD)),
            "fan_out": unbuilt("pages are fetched one after the other"),
        },
        {
            "header_link": {"links_next_key": Key(_TEXT)},
            "page_number": {
                "base_page": Key(Number(0)),
                "page_param": Key(_TEXT),
                "total_path": Key(Path()),
                "maximum_page": Key(Number(0)),
                "page_body_path": unbuilt("page_param: a parameter of the URL"),
                "page_path": unbuilt(),
            },
            "cursor": {
                "cursor_path": Key(Path(), required=True, hint="cursor_path: meta.next_cursor"),
                "cursor_param": Key(_TEXT),
                "cursor_body_path": unbuilt("cursor_param: a parameter of the URL"),
            },
            "single_page": {},
        },
        short=True,
    )


def endpoint() -> Record:
    """What is asked for: a path alone, or a map."""
    asked = places.REQUEST
    decoder = Record(
        {
            "type": Key(Choice(("auto", "json", "jsonl", "text"), ("csv", "xml", "html")), required=True),
            **dict.fromkeys(("delimiter", "encoding", "compression"), unbuilt()),
        },
        shorthand="type",
    )
    return Record(
        {
            "path": Key(TemplateText(asked, path=True)),
            "url": Key(TemplateText(asked, path=True)),
            "method": Key(Choice(METHODS, fold=True)),
            "params": Key(ParamMap(asked)),
            "headers": Key(ParamMap(asked, secret_names=True)),
            "json": Key(Json(asked)),
            "data": Key(Json(asked, spelling=True)),
            "decoder": Key(decoder),
            "data_selector": Key(Path()),
            "paginator": Key(_paginator()),
            "incremental": unbuilt("each run reads everything; params can hold a fixed since:"),
        },
        shorthand="path",
    )


def _resource_keys() -> dict[str, Key]:
    parent = Record(
        {
            "resource": Key(_TEXT, required=True, hint="parent: {resource: issues}"),
            "each": Key(Path()),
            "when": Key(Expr(places.EDGE)),
            "priority": Key(Expr(places.EDGE)),
        },
        shorthand="resource",
    )
    return {
        "endpoint": Key(endpoint()),
        "parent": Key(ListOf(parent, single=True)),
        "include_from_parent": Key(_NAMES),
        "primary_key": Key(_NAMES),
        "record_filter": Key(Expr(places.RECORD)),
        "fields": Key(MapOf(Field(), "a map {name: path}")),
        "priority": Key(Expr(places.RECORD)),
        "selected": Key(Flag()),
        "seeds": Key(Seeds()),
        "response_actions": Key(_actions()),
        "schedule": unbuilt("start the run when it is due, from cron say"),
        "recrawl": unbuilt("start the run again; items that did not change are not written again"),
        "links": unbuilt(),
        "match": unbuilt(),
    }


def _outputs() -> ListOf:
    later = ("csv", "sqlite", "postgres", "parquet", "warc", "stdout")
    output = TypedRecord(
        Choice(("jsonl",), later),
        {
            "resources": Key(_NAMES),
            "write_disposition": unbuilt("an item is written again when it changed"),
        },
        {
            "jsonl": {
                "path": Key(
                    TemplateText(places.OUTPUT, path=True),
                    required=True,
                    hint="path: out/${resource}.jsonl",
                )
            }
        },
    )
    return ListOf(output, single=True, wanted='- {type: jsonl, path: "out/${resource}.jsonl"}')


@cache
def language() -> Record:
    """The whole file."""
    resource = Record(
        {
            "name": Key(
                Text(RESOURCE_NAME, "a name of letters, digits, _ and -"), required=True, hint="name: issues"
            ),
            **_resource_keys(),
        },
        shorthand="name",
    )
    redis = Record(
        {
            "url": Key(RedisUrl()),
            "durability": Key(Choice(("fast", "normal", "strict"))),
            "server": Key(Text(wanted="a path to a server binary")),
        },
        shorthand="url",
    )
    queue = Record(
        {
            "order": Key(Choice(("strict", "fair"))),
            "max_tasks": Key(Number()),
            "on_full": Key(Choice(("block", "reject"), ("drop_lowest",))),
        }
    )
    run = Record(
        {
            "workers": Key(Number(1, MAX_WORKERS)),
            "concurrency": Key(Number(1, MAX_CONCURRENCY)),
            "grace": Key(Duration(zero=True)),
        }
    )
    root = Record(
        {
            "version": Key(Version(), required=True, hint="version: 1"),
            "name": Key(Text(NAME, "a name of a-z, 0-9, _ and -"), required=True, hint="name: acme"),
            "redis": Key(redis),
            "queue": Key(queue),
            "run": Key(run),
            "client": Key(_client()),
            "rate_limits": Key(_rate_limits()),
            "response_actions": Key(_actions()),
            "seeds": Key(Seeds()),
            "resource_defaults": Key(None),  # merged into the resources before they are read
            "resources": Key(ListOf(resource, least=1, wanted="at least one resource"), required=True),
            "crawl": unbuilt(),
            "outputs": Key(_outputs()),
        },
        extra="x-",
    )
    learn_places(root)
    return root


@cache
def resource_keys() -> dict[str, Key]:
    """The keys of a resource besides its name, which are those of `resource_defaults`."""
    return _resource_keys()


def schema() -> dict[str, Any]:
    """The language as JSON Schema 2020-12; every shorthand is in it, what is not built yet is not."""
    made = language().schema()
    made["properties"]["resource_defaults"] = _removable(Record(_resource_keys()).schema())
    _removable(made["properties"]["resources"]["items"]["anyOf"][1])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "scrapeq: one file, one scrape",
        **made,
    }


def _removable(resource: dict[str, Any]) -> dict[str, Any]:
    """Lets null stand for any key of a resource and its endpoint but the name: it removes a default."""
    properties = resource["properties"]
    endpoint = properties["endpoint"]["anyOf"][1]
    for owner in (endpoint["properties"], properties):
        for name, inner in owner.items():
            if name != "name":
                owner[name] = {"anyOf": [{"type": "null"}, inner]}
    return resource
