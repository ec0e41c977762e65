"""The configuration language: every key, the shape of its value, and the keys that are not implemented."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from scrapeq import plan
from scrapeq.config import expression_scopes
from scrapeq.config.client_terms import client
from scrapeq.config.limit_terms import LimitName, PriorityThreshold, RateTerm, WeightTerm
from scrapeq.config.output_terms import outputs
from scrapeq.config.paths import Path
from scrapeq.config.records import Key, ListOf, MapOf, Record, learn_parent_keys, unimplemented
from scrapeq.config.request_terms import METHODS, endpoint
from scrapeq.config.resource_terms import Field, FunctionName, Seeds, schedule
from scrapeq.config.shapes import Choice, Duration, Expr, Flag, Number, TemplateText, Text
from scrapeq.config.terms import Glob, Observe, RedisUrl, Status, Version, WaitTerm
from scrapeq.limit import RATES_MAX

MAX_WORKERS = 256
MAX_CONCURRENCY = 10_000
NAME = r"[a-z0-9_-]{1,64}"
RESOURCE_NAME, NAME_OF_LETTERS = r"[A-Za-z0-9_-]{1,64}", "a name of letters, digits, _ and - (at most 64)"
EXCEPTIONS = ("timeout", "connection", "bad_answer", "too_large")

_TEXT = Text()
_NAMES = ListOf(Text(), single=True)


def _match(*, response: bool) -> Record:
    keys = {
        "resource": Key(_NAMES),
        "method": Key(ListOf(Choice(METHODS, fold=True), single=True)),
        "host": Key(ListOf(Glob(), single=True)),
        "path": Key(ListOf(Glob(), single=True)),
    }
    if response:
        keys["status"] = Key(ListOf(Status(), single=True))
        keys["exception"] = Key(ListOf(Choice(EXCEPTIONS), single=True))
        keys["when"] = Key(Expr(expression_scopes.RESPONSE))
    headers = (
        "when: header('X-Status') == 'busy'" if response else "a limit matches before there is a response"
    )
    return Record(keys, hints={"headers": headers, "header": headers})


def _rate_limits() -> ListOf:
    partition = r"host|token|resource|(seed|parent)\.[A-Za-z_]\w*"
    weight = Record(
        {
            "match": Key(_match(response=True), required=True, hint="{match: {status: 304}, weight: 0}"),
            "weight": Key(WeightTerm(), required=True, hint="{match: {status: 304}, weight: 0}"),
        }
    )
    reserve = Record(
        {
            "fraction": Key(
                Number(0, 0.999, exclusive=True, fractions=True),
                required=True,
                hint="{fraction: 0.1, min_priority: now - 1d}",
            ),
            "min_priority": Key(PriorityThreshold(), required=True, hint="min_priority: now - 1d"),
        }
    )
    limit = Record(
        {
            "name": Key(LimitName(RESOURCE_NAME, NAME_OF_LETTERS), required=True, hint="name: core"),
            "match": Key(_match(response=False)),
            "partition_by": Key(
                ListOf(Text(partition, "one of host, token, resource, seed.x, parent.x"), single=True)
            ),
            "rates": Key(ListOf(RateTerm(), single=True, max_items=RATES_MAX)),
            "max_concurrency": Key(Number(1, MAX_CONCURRENCY)),
            "observe": Key(Observe()),
            "weights": Key(ListOf(weight)),
            "reserve": Key(reserve),
        },
        hints=dict.fromkeys(
            ("headers", "header"),
            "observe: auto reads the usual headers; for others, observe: {remaining: header('X-Left')}",
        ),
    )
    return ListOf(limit, expected="- {name: core, rates: [{limit: 30, interval: 1m}]}")


def _actions() -> ListOf:
    action = Record(
        {
            "match": Key(_match(response=True), required=True, hint="match: {status: 403}"),
            "action": Key(Choice(get_args(plan.Action)), required=True, hint="action: retry"),
            "scope": Key(_TEXT),
            "wait": Key(ListOf(WaitTerm(), single=True)),
            "max_wait": Key(Duration()),
            "on_exceed": Key(Choice(("park", "dead_letter", "stop"))),
            "message": Key(TemplateText(expression_scopes.RESPONSE)),
        }
    )
    return ListOf(action, expected="- {match: {status: 403}, action: retry}")


def _resource_keys() -> dict[str, Key]:
    parent = Record(
        {
            "resource": Key(_TEXT, required=True, hint="parent: {resource: issues}"),
            "each": Key(Path()),
            "when": Key(Expr(expression_scopes.EDGE)),
            "priority": Key(Expr(expression_scopes.EDGE)),
        },
        shorthand="resource",
    )
    return {
        "endpoint": Key(endpoint()),
        "parent": Key(ListOf(parent, single=True)),
        "include_from_parent": Key(_NAMES),
        "include_from_seed": Key(_NAMES),
        "key_scope": Key(Choice(("origin", "global"))),
        "primary_key": Key(_NAMES),
        "record_filter": Key(Expr(expression_scopes.RECORD)),
        "fields": Key(MapOf(Field(), "a map {name: path}")),
        "priority": Key(Expr(expression_scopes.RECORD)),
        "selected": Key(Flag()),
        "seeds": Key(Seeds()),
        "response_actions": Key(_actions()),
        "schedule": Key(schedule()),
        "handler": Key(FunctionName()),
        "on_page": Key(FunctionName()),
        "on_item": Key(FunctionName()),
        "recrawl": unimplemented("run scrapeq again; unchanged items are not written again"),
        "links": unimplemented(),
        "match": unimplemented(),
    }


@cache
def language() -> Record:
    """Return the shape of a whole file."""
    resource = Record(
        {
            "name": Key(Text(RESOURCE_NAME, NAME_OF_LETTERS), required=True, hint="name: issues"),
            **_resource_keys(),
        },
        shorthand="name",
    )
    redis = Record(
        {
            "url": Key(RedisUrl()),
            "durability": Key(Choice(("fast", "normal", "strict"))),
            "server": Key(Text(expected="a path to a server binary")),
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
            "name": Key(
                Text(NAME, "a name of a-z, 0-9, _ and - (at most 64)"), required=True, hint="name: acme"
            ),
            "redis": Key(redis),
            "queue": Key(queue),
            "run": Key(run),
            "client": Key(client()),
            "rate_limits": Key(_rate_limits()),
            "response_actions": Key(_actions()),
            "seeds": Key(Seeds()),
            "resource_defaults": Key(None),  # `normalize` has merged it into the resources
            "resources": Key(ListOf(resource, min_items=1, expected="at least one resource"), required=True),
            "crawl": unimplemented(),
            "outputs": Key(outputs()),
        },
        extra="x-",
    )
    learn_parent_keys(root)
    return root


@cache
def resource_keys() -> dict[str, Key]:
    """Return the keys of a resource except its name; `resource_defaults` has the same keys."""
    return _resource_keys()


def schema() -> dict[str, Any]:
    """Return the language as JSON Schema 2020-12, with all shorthands and without unimplemented keys."""
    result = language().schema()
    result["properties"]["resource_defaults"] = _removable(Record(_resource_keys()).schema())
    _removable(result["properties"]["resources"]["items"]["anyOf"][1])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "scrapeq: one file, one scrape",
        **result,
    }


def _removable(schema: dict[str, Any]) -> dict[str, Any]:
    """
    Adapt the schema of a map that is merged with defaults, in place.

    Null removes any key but the name, and the type may come from the defaults.
    """
    for option in (schema, *schema.get("anyOf", ())):
        properties = option.get("properties", {})
        if option.get("required") == ["type"]:
            del option["required"]
        for name, inner in properties.items():
            if name != "name":
                properties[name] = {"anyOf": [{"type": "null"}, _removable(inner)]}
    return schema
