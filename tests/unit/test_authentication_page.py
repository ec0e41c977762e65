"""Every configuration in docs/reference/authentication.md loads."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from scrapeq import config

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "authentication.md").read_text()
EXAMPLES = [textwrap.dedent(example) for example in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]
CLIENT = "client:\n  base_url: https://api.acme.test\n"
CONTEXTS = {"auth": (CLIENT, "  "), "login": (f"{CLIENT}  auth:\n    type: session\n", "    ")}
SESSION = f'{CLIENT}  auth: {{type: session, login: {{path: in, data: {{word: "${{env:WORD}}"}}}}}}\n'
REST = "version: 1\nname: acme\nresources: [items]\noutputs: [{type: stdout}]\n"


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.split(":")[0] for example in EXAMPLES])
def test_each_example_loads(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is completed with the keys that every file needs."""
    for name in ["WORD", *re.findall(r"\$\{env:(\w+)\}", example)]:
        monkeypatch.setenv(name, f"secret-of-{name}")
    before, indent = CONTEXTS.get(
        example.split(":")[0], ("" if example.startswith("client") else SESSION, "")
    )
    text = example if example.startswith("version") else REST + before + textwrap.indent(example, indent)
    plan = config.load("acme.yaml", text=text)
    assert plan.client.auth.type != "none" or plan.client.secrets


def test_the_page_has_examples_of_refreshable_credentials() -> None:
    """Guards against a pattern that finds nothing."""
    assert {"type: session", "type: oauth2_client_credentials", "type: oauth2_refresh_token"} <= {
        line.strip() for example in EXAMPLES for line in example.splitlines()
    }
