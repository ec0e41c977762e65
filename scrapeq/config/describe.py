"""A plan as plain JSON, for people to look at: secrets are masked, expressions stand as they were written."""

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
_PLAIN = (
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
_ORIGINS = ("source", "overrides")  # of the plan: what it was made of says nothing that its parts do not
_URL_SECRET = re.compile(r"(://[^/@:]*:)[^/@]*@")


def describe(plan: Plan) -> dict[str, Any]:
    """
    The plan as a JSON-able map.

    Credentials are `***`; what was filled in from the environment or a file is shown as it was written (`${env:X}`);
    the store's URL is shown without its password; durations have their unit.
    """
    shown: dict[str, Any] = _shown(plan)
    for name in _ORIGINS:
        shown.pop(name, None)
    shown["redis"]["url"] = _URL_SECRET.sub(rf"\1{MASK}@", str(plan.redis.url))
    return shown


def _shown(value: Any) -> Any:
    if isinstance(value, Filled):
        return value.source
    if isinstance(value, Expression | Template):
        return value.source
    if isinstance(value, Observe):
        return value.written()
    if isinstance(value, Auth):
        return _auth(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {_name(f.name): _member(f.name, getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return value


def _name(name: str) -> str:
    return name.removesuffix("_s")


def _member(name: str, value: Any) -> Any:
    if name.endswith("_s") and isinstance(value, int | float):
        return write_duration(value)
    return _shown(value)


def _auth(auth: Auth) -> dict[str, Any]:
    bare = Auth(auth.type)
    shown: dict[str, Any] = {"type": auth.type}
    kept = [name for name in _PLAIN if getattr(auth, name) != getattr(bare, name)]
    if auth.type == "api_key":
        kept.append("location")
    shown |= {_name(name): _member(name, getattr(auth, name)) for name in kept}
    if auth.login:
        shown["login"] = _login(auth.login)
    shown |= {
        name: _masked(getattr(auth, name)) for name in ("token_params", "options") if getattr(auth, name)
    }
    if auth.tokens:
        return shown | {"tokens": [MASK] * len(auth.tokens)}
    return shown | {name: MASK for name in _SECRETS if getattr(auth, name)}


def _login(login: Login) -> dict[str, Any]:
    shown = {"path": _shown(login.path), "form": login.form}
    shown |= {"data": _masked(login.data), "json": _masked(login.json)}
    return {name: value for name, value in shown.items() if value}


def _masked(value: Any) -> Any:
    """The same shape with every value of it masked."""
    if isinstance(value, Mapping):
        return {str(key): _masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner) for inner in value]
    return None if value is None else MASK
