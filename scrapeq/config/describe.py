"""Converts a plan to JSON for display: secrets are masked, expressions and placeholders appear as written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from scrapeq.config.read_context import Filled
from scrapeq.config.units import write_duration
from scrapeq.expression import Expression, Template
from scrapeq.plan import Auth, Login, Observe, Plan

MASK = "***"
_SECRETS = ("token", "username", "password", "client_secret", "refresh_token")
_PUBLIC = (
    "name",
    "location",
    "access_token_url",
    "client_id",
    "client_auth",
    "scopes",
    "success_when",
    "session_token_path",
    "expires_s",
)
_INPUTS = ("source", "overrides")  # fields of the plan whose information is in its other fields as well
_URL_SECRET = re.compile(r"(://[^/@:]*:)[^/@]*@")


def describe(plan: Plan) -> dict[str, Any]:
    """
    Return a plan as a map that can be serialized to JSON.

    Credentials and the password of the store's URL are `***`. Values from the environment or a file appear as written
    (`${env:X}`), durations with their unit.
    """
    described: dict[str, Any] = _plain(plan)
    for name in _INPUTS:
        described.pop(name, None)
    for name in ("secrets", "url_hosts"):
        described["client"].pop(name, None)
    described["redis"]["url"] = _URL_SECRET.sub(rf"\1{MASK}@", str(plan.redis.url))
    return described


def _plain(value: Any) -> Any:
    if isinstance(value, Filled):
        return value.source
    if isinstance(value, Expression | Template):
        return value.source
    if isinstance(value, Observe):
        return value.as_written()
    if isinstance(value, Auth):
        return _auth(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {_name(f.name): _field_value(f.name, getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _name(name: str) -> str:
    return name.removesuffix("_s")


def _field_value(name: str, value: Any) -> Any:
    if name.endswith("_s") and isinstance(value, int | float):
        return write_duration(value)
    return _plain(value)


def _auth(auth: Auth) -> dict[str, Any]:
    bare = Auth(auth.type)
    described: dict[str, Any] = {"type": auth.type}
    names = [name for name in _PUBLIC if getattr(auth, name) != getattr(bare, name)]
    if auth.type == "api_key":
        names.append("location")
    described |= {_name(name): _field_value(name, getattr(auth, name)) for name in names}
    if auth.login:
        described["login"] = _login(auth.login)
    described |= {
        name: _masked(getattr(auth, name)) for name in ("token_params", "options") if getattr(auth, name)
    }
    if auth.tokens:
        return described | {"tokens": [MASK] * len(auth.tokens)}
    return described | {name: MASK for name in _SECRETS if getattr(auth, name)}


def _login(login: Login) -> dict[str, Any]:
    described = {"path": _plain(login.path), "form": login.form}
    described |= {"data": _masked(login.data), "json": _masked(login.json)}
    return {name: value for name, value in described.items() if value}


def _masked(value: Any) -> Any:
    """Return the same structure with every value masked."""
    if isinstance(value, Mapping):
        return {str(key): _masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner) for inner in value]
    return None if value is None else MASK
