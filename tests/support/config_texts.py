"""Configuration texts that tests share, and functions that load them."""

from __future__ import annotations

import pytest

from scrapeq.config import load
from scrapeq.errors import ConfigError
from scrapeq.plan import Plan

HEAD = "version: 1\nname: demo\nclient: {base_url: https://a.test}\n"
ENV = {"ID": "me", "S": "s3cret", "R": "r3fresh", "EMPTY": ""}


def plan(text: str, folder: str = "") -> Plan:
    """Return the plan of a configuration text."""
    return load(f"{folder}a.yaml", text=text, env=ENV)


def reported(text: str) -> str:
    """Return the message of the ConfigError that a text raises."""
    with pytest.raises(ConfigError) as caught:
        plan(text)
    return str(caught.value)


def client(inner: str) -> str:
    """Return a configuration text whose client has these keys."""
    return f"version: 1\nname: demo\nclient: {{base_url: https://a.test, {inner}}}\nresources: [a]\n"
