"""Build the credential that a client's configuration describes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import orjson

from scrapeq import plugins
from scrapeq.clock import Clock
from scrapeq.errors import UsageError
from scrapeq.fetch.auth import Credential, credential, redact, token_credential
from scrapeq.fetch.oauth2 import OAuth2
from scrapeq.fetch.redirects import join_url
from scrapeq.fetch.refreshable_auth import Login, RefreshableAuth
from scrapeq.fetch.token_file import TokenFile
from scrapeq.plan import STATIC_AUTHS, Auth, Client

_DIGEST_BYTES = 16


def credential_of(
    client: Client, tokens: Path | None, clock: Clock
) -> Credential | RefreshableAuth | httpx.Auth | None:
    """
    Return the credential of a client: static, refreshable, or an `httpx.Auth` of another package; None without auth.

    Args:
        client: The configuration.
        tokens: The file that stores issued credentials; None = in memory only.
        clock: Wall time.

    Raises:
        UsageError: the type belongs to another package, which is not installed or rejects the options.
    """
    auth = client.auth
    if auth.type in STATIC_AUTHS:
        return credential(auth)
    if auth.is_refreshable:
        token_file = TokenFile(tokens, _config_digest(client))
        return RefreshableAuth(_login(client, clock), partial(token_credential, auth), token_file, clock)
    return _plugin_auth(auth)


def _login(client: Client, clock: Clock) -> Login:
    auth = client.auth
    if auth.type != "session":
        return OAuth2(auth, clock)
    # Loaded on first use: few configurations need its HTML parser.
    from scrapeq.fetch.login import SessionLogin

    return SessionLogin(auth, client.base_url, clock)


def login_urls(client: Client) -> list[str]:
    """Return the URLs of logins and token endpoints. The user named them, so they may be private addresses."""
    auth = client.auth
    named = [auth.access_token_url] if auth.access_token_url else []
    return [*named, join_url(client.base_url, auth.login.path)] if auth.login else named


def check(client: Client) -> None:
    """Raise UsageError if the auth type belongs to another package and cannot be used."""
    if client.auth.type not in STATIC_AUTHS and not client.auth.is_refreshable:
        _plugin_auth(client.auth)


def _plugin_auth(auth: Auth) -> httpx.Auth:
    """Return the auth of another package."""
    try:
        found = plugins.load(plugins.AUTHS, auth.type)(**auth.options)
    except UsageError:
        raise
    except Exception as error:  # a class of another package may raise anything
        reason = redact(str(error), auth)
        raise UsageError(f"client.auth: {auth.type} does not accept these options: {reason}") from None
    if not isinstance(found, httpx.Auth):
        raise UsageError(
            f"client.auth: {auth.type} returned a {type(found).__name__}; expected an httpx.Auth"
        )
    return found


def _config_digest(client: Client) -> str:
    """Return a digest of everything that a login depends on. Credentials of another configuration are not reused."""
    auth = replace(client.auth, success_when=None)
    text = orjson.dumps([client.base_url, auth], option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()
