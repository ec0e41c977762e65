"""Types of auth, paginators and outputs that installed packages provide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from config_texts import client, plan, reported

from scrapeq.config import describe
from scrapeq.plan import Auth, Paginator


def package(folder: Path, points: str) -> None:
    """Create the metadata of an installed package with entry points."""
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a package with a paginator, a type of auth and a sink."""
    from scrapeq import plugins

    package(
        tmp_path,
        "[scrapeq.paginators]\nbook = acme:Book\n[scrapeq.auth]\nhmac = acme:Hmac\n[scrapeq.sinks]\nkafka = acme:K\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._entry_points.cache_clear()
    yield
    plugins._entry_points.cache_clear()


def test_types_of_installed_packages_accept_any_keys(acme: None) -> None:
    """Common keys are read as usual, all others are options; secrets must not be in the file, and are masked."""
    text = "version: 1\nname: demo\n"
    text += "client: {base_url: https://a.test, auth: {type: hmac, region: x, secret: '${env:S}'}}\n"
    text += (
        "resources: [{name: a, endpoint: {path: a, paginator: {type: book, max_pages: 3, per: [1, 2]}}}]\n"
    )
    text += (
        "outputs: {type: kafka, topic: 'x-${resource}', url: '${env:ID}', batch: {size: 5}, resources: a}\n"
    )
    made = plan(text)
    assert made.client.auth == Auth("hmac", options={"region": "x", "secret": "s3cret"})
    found = made.resources[0].endpoint
    assert found is not None and found.paginator == Paginator("book", max_pages=3, options={"per": [1, 2]})
    (output,) = made.outputs
    assert (output.type, output.resources, output.options["url"]) == ("kafka", ("a",), "me")
    assert output.options["topic"].render({"resource": "r"}) == "x-r"
    assert output.options["batch"] == {"size": 5}
    assert "s3cret" not in json.dumps(describe(made)) + repr(made)
    assert "client.auth.secret: a secret in clear text" in reported(text.replace("'${env:S}'", "abc"))
    assert "did you mean kafka? one of jsonl" in reported(text.replace("type: kafka", "type: kafk"))


def test_type_without_an_installed_package_is_unknown() -> None:
    """Only the names of installed packages are valid types."""
    assert "unknown type 'hmac'" in reported(client("auth: {type: hmac, region: x}"))
