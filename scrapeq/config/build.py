"""Builds the plan from a parsed file that has passed all checks."""

from __future__ import annotations

from typing import Any

from scrapeq import plan
from scrapeq.config.normalize import resources_of
from scrapeq.config.records import ParsedMap
from scrapeq.config.resource_terms import SeedSource
from scrapeq.expression import compile_template
from scrapeq.limit import Reserve

TABLE_OUTPUTS, DEFAULT_TABLE = ("sqlite", "postgres"), "${resource}"


def build(root: ParsedMap, file: str) -> plan.Plan:
    """Return the plan of a file whose values are all valid."""
    resources = resources_of(root)
    actions = {r.get("name"): _actions(r) for r in resources if r.get("response_actions")}
    return plan.Plan(
        name=root.get("name"),
        file=file,
        redis=plan.Redis(**_values(root, "redis")),
        queue=plan.QueueSettings(**_values(root, "queue")),
        run=plan.Run(**_renamed(_values(root, "run"), grace="grace_s")),
        client=_client(root.get("client")),
        rate_limits=tuple(_limit(limit) for limit in root.get("rate_limits", ())),
        response_actions=_actions(root),
        **_seeds(root.get("seeds")),
        resources=tuple(_resource(resource) for resource in resources),
        outputs=tuple(_output(output) for output in root.get("outputs", ())),
        resource_actions=actions,
    )


def _values(root: ParsedMap, key: str) -> dict[str, Any]:
    found = root.get(key)
    return dict(found.values) if isinstance(found, ParsedMap) else {}


def _renamed(values: dict[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _seeds(source: SeedSource | None) -> dict[str, Any]:
    if source is None:
        return {}
    return {"seeds": source.rows, "seed_file": source.file, "seed_priority": source.priority}


def _client(found: ParsedMap | None) -> plan.Client:
    if found is None:
        return plan.Client()
    values = _renamed(found.values, timeout="timeout_s", extract_timeout="extract_timeout_s")
    values.pop("http2", None)
    if "auth" in values:
        values["auth"] = _auth(values["auth"])
    if "cache" in values:
        values["cache"] = plan.Cache(**values["cache"].values)
    return plan.Client(**values)


def _auth(found: ParsedMap) -> plan.Auth:
    values = _renamed(found.values, expires="expires_s", api_key="token")
    if "login" in values:
        values["login"] = plan.Login(**values["login"].values)
    for several in ("tokens", "api_keys"):
        if several in values:
            tokens = values.pop(several)
            values["token"], values["tokens"] = tokens[0], tokens if len(tokens) > 1 else ()
    return plan.Auth(**values)


def _match(found: ParsedMap | None) -> plan.Match:
    return plan.Match(**found.values) if found else plan.Match()


def _limit(found: ParsedMap) -> plan.LimitRule:
    values = dict(found.values)
    values["match"] = _match(values.get("match"))
    values["weights"] = tuple(
        plan.Weight(_match(weight.get("match")), weight.get("weight")) for weight in values.get("weights", ())
    )
    if "reserve" in values:
        threshold, of_now = values["reserve"].get("min_priority")
        values["reserve"] = Reserve(values["reserve"].get("fraction"), threshold, of_now)
    values["rates"] = tuple(
        plan.Rate(**_renamed(rate.values, interval="interval_s")) for rate in values.get("rates", ())
    )
    return plan.LimitRule(**values)


def _actions(owner: ParsedMap) -> tuple[plan.ResponseAction, ...]:
    result = []
    for found in owner.get("response_actions", ()):
        values = _renamed(found.values, max_wait="max_wait_s")
        values["match"] = _match(values["match"])
        result.append(plan.ResponseAction(**values))
    return tuple(result)


def _resource(found: ParsedMap) -> plan.Resource:
    values = {key: value for key, value in found.values.items() if key != "response_actions"}
    values |= _seeds(values.pop("seeds", None))
    endpoint, schedule = values.get("endpoint"), values.get("schedule")
    values["endpoint"] = _endpoint(endpoint, handled=bool(values.get("handler"))) if endpoint else None
    values["schedule"] = plan.Schedule(**_renamed(schedule.values, every="every_s")) if schedule else None
    values["parents"] = tuple(plan.Parent(**parent.values) for parent in values.pop("parent", ()))
    return plan.Resource(**values)


# Formats that are read row by row. Nothing around the rows could refer to a next page.
_STREAMED = ("csv", "tsv", "jsonl", "text")


def _endpoint(found: ParsedMap, *, handled: bool) -> plan.Endpoint:
    values = dict(found.values)
    if "decoder" in values:
        values["decoder"] = plan.Decoder(**values["decoder"].values)
    if "paginator" in values:
        values["paginator"] = plan.Paginator(**values["paginator"].values)
    elif not handled and values.get("decoder", plan.Decoder()).type not in _STREAMED:
        values["paginator"] = plan.Paginator("auto", implied=True)
    if "incremental" in values:
        inner = _renamed(values["incremental"].values, lookback="lookback_s", step="step_s")
        values["incremental"] = plan.Incremental(**inner)
    return plan.Endpoint(**values)


def _output(found: ParsedMap) -> plan.Output:
    values = dict(found.values)
    if "rotate" in values:
        rotate = values.pop("rotate")
        values |= _renamed(rotate.values, size="rotate_bytes", every="rotate_s")
    if values["type"] in TABLE_OUTPUTS:
        values.setdefault("table", compile_template(DEFAULT_TABLE))
    return plan.Output(**values)
