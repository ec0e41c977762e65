"""Which credential a client's configuration means."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import httpx
import orjson

from scrapeq import plugins
from scrapeq.clock import Clock
from scrapeq.errors import UsageError
from scrapeq.fetch.auth import Credential, credential, hidden
from scrapeq.fetch.oauth2 import OAuth2
from scrapeq.fetch.redirects import joined
from scrapeq.fetch.refreshable_auth import Login, RefreshableAuth
from scrapeq.fetch.token_file import TokenFile
from scrapeq.plan import STATIC_AUTHS, Auth, Client

_DIGEST_BYTES = 16


def credential_of(
    client: Client, tokens: Path | None, clock: Clock
) -> Credential | RefreshableAuth | httpx.Auth | None:
    """
    What puts the credential on requests; None if there is none.

    Args:
        client: The configuration.
        tokens: Where what logins gave is kept; None = in memory.
        clock: Wall time.

    Raises:
        UsageError: the entry point that the type names cannot be used.
    """
    auth = client.auth
    if auth.type in STATIC_AUTHS:
        return credential(auth)
    if auth.is_refreshable:
        return RefreshableAuth(_login(client, clock), TokenFile(tokens, _digest(client)), clock)
    return _added(auth)


def _login(client: Client, clock: Clock) -> Login:
    auth = client.auth
    if auth.type != "session":
        return OAuth2(auth, clock)
    # few files need its parser, and every start would pay for it
    from scrapeq.fetch.login import SessionLogin

    return SessionLogin(auth, client.base_url, clock)


def urls_of(client: Client) -> list[str]:
    """The addresses of logins and token endpoints: the user named them, so they may be private ones."""
    auth = client.auth
    named = [auth.access_token_url] if auth.access_token_url else []
    return [*named, joined(client.base_url, auth.login.path)] if auth.login else named


def check(client: Client) -> None:
    """Raises UsageError where the type is one that another package adds, and it cannot be used."""
    if client.auth.type not in STATIC_AUTHS and not client.auth.is_refreshable:
        _added(client.auth)


def _added(auth: Auth) -> httpx.Auth:
    """One that another package adds."""
    try:
        found = plugins.load(plugins.AUTHS, auth.type)(**auth.options)
    except UsageError:
        raise
    except Exception as error:  # whatever a foreign class raises of its options
        told = hidden(str(error), auth)
        raise UsageError(f"client.auth: {auth.type} does not take these options: {told}") from None
    if not isinstance(found, httpx.Auth):
        raise UsageError(f"client.auth: {auth.type} gives a {type(found).__name__}, which is no httpx.Auth")
    return found


def _digest(client: Client) -> str:
    """Of all that a login depends on: what was given for another configuration is void."""
    auth = replace(client.auth, success_when=None)
    text = orjson.dumps([client.base_url, auth], option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()
