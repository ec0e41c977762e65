"""Creating the credential of a configuration, with secrets from the environment."""

from __future__ import annotations

from scrapeq import config
from scrapeq.clock import SystemClock
from scrapeq.fetch.auth_factory import credential_of
from scrapeq.fetch.refreshable_auth import RefreshableAuth

TEXT = """\
version: 1
name: t
client:
  base_url: https://a.test
  auth:
    type: session
    login: {path: login, data: {user: "${env:NAME}", word: "${env:WORD}"}}
    success_when: status == 302
resources: [{name: r, endpoint: r}]
outputs: [{type: stdout}]
"""


def test_a_session_uses_values_of_the_environment() -> None:
    """The values of a login may be placeholders that are filled in when the file is read."""
    client = config.load("a.yaml", text=TEXT, env={"NAME": "ada", "WORD": "x"}).client
    assert isinstance(credential_of(client, None, SystemClock()), RefreshableAuth)
