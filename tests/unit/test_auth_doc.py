"""Every configuration in docs/authentication.md is valid."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from scrapeq import config

TEXT = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()
EXAMPLES = [textwrap.dedent(example) for example in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]
CLIENT = "client:\n  base_url: https://api.acme.test\n"
AROUND = {"auth": (CLIENT, "  "), "login": (f"{CLIENT}  auth:\n    type: session\n", "    ")}
SESSION = f'{CLIENT}  auth: {{type: session, login: {{path: in, data: {{word: "${{env:WORD}}"}}}}}}\n'
REST = "version: 1\nname: acme\nresources: [items]\noutputs: [{type: stdout}]\n"


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.split(":")[0] for example in EXAMPLES])
def test_the_example_is_valid(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example, completed to a whole file."""
    for name in ["WORD", *re.findall(r"\$\{env:(\w+)\}", example)]:
        monkeypatch.setenv(name, f"secret-of-{name}")
    before, indent = AROUND.get(example.split(":")[0], ("" if example.startswith("client") else SESSION, ""))
    plan = config.load("acme.yaml", text=REST + before + textwrap.indent(example, indent))
    assert plan.client.auth.type != "none"


def test_every_auth_type_has_an_example() -> None:
    """The test above reads an example of every type."""
    assert {"type: session", "type: oauth2_client_credentials", "type: oauth2_refresh_token"} <= {
        line.strip() for example in EXAMPLES for line in example.splitlines()
    }
