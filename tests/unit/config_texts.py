"""Files as texts that tests of the configuration share, and what is wrong with them."""

from __future__ import annotations

import pytest

from scrapeq.config import load
from scrapeq.errors import ConfigError
from scrapeq.plan import Plan

HEAD = "version: 1\nname: demo\nclient: {base_url: https://a.test}\n"
ENV = {"ID": "me", "S": "s3cret", "R": "r3fresh", "EMPTY": ""}


def plan(text: str, folder: str = "") -> Plan:
    """The plan of a text."""
    return load(f"{folder}a.yaml", text=text, env=ENV)


def reported(text: str) -> str:
    """All that is wrong with a text."""
    with pytest.raises(ConfigError) as caught:
        plan(text)
    return str(caught.value)


def client(inner: str) -> str:
    """A file whose client has these keys."""
    return f"version: 1\nname: demo\nclient: {{base_url: https://a.test, {inner}}}\nresources: [a]\n"
