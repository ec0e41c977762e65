"""Scrape an unmodified Django REST framework: three paginations, declared and detected, and two kinds of login."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from api_scrapes import Command
from targets import environment
from targets.environment import free_port, python_of, served

BOOKS = 230
CONFIG = """\
version: 1
name: books
client: {base_url: URL}
resource_defaults: {primary_key: id}
resources:
  - name: numbered
    endpoint:
      path: numbered/
      params: {page_size: 50}
      paginator: {type: page_number, page_param: page}
      data_selector: results
  - name: linked
    endpoint: {path: numbered/, paginator: {type: json_link, next_url_path: next}, data_selector: results}
  - name: offset
    endpoint:
      path: offset/
      paginator: {type: offset, limit: 40, offset_param: offset, limit_param: limit, total_path: count}
      data_selector: results
  - name: offset_at_once
    endpoint:
      path: offset/
      paginator: {type: offset, limit: 40, offset_param: offset, limit_param: limit, total_path: count, fan_out: true}
      data_selector: results
  - name: cursor
    endpoint: {path: cursor/, paginator: {type: json_link, next_url_path: next}, data_selector: results}
  - {name: numbered_found, endpoint: {path: numbered/, paginator: auto}}
  - {name: offset_found, endpoint: {path: offset/, params: {limit: 50}, paginator: auto}}
  - {name: cursor_found, endpoint: {path: cursor/, paginator: auto}}
  - {name: plain_found, endpoint: {path: plain/, paginator: auto}}
  - {name: slow, endpoint: {path: slow/, params: {page_size: 50}, paginator: {type: json_link, next_url_path: next}}}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
SIGNED_IN = """\
version: 1
name: members
client: {base_url: URL, auth: AUTH}
resources:
  - {name: books, primary_key: id, endpoint: {path: PATH, paginator: {type: json_link, next_url_path: next}}}
outputs: [{type: jsonl, path: out.jsonl}]
"""
TOKEN = "0123456789abcdef0123456789abcdef01234567"
BY_TOKEN = '{type: api_key, name: Authorization, api_key: "Token ${env:TOKEN}"}'
BY_LOGIN = (
    '{type: session, login: {path: accounts/login/, form: form, data: {username: "${env:NAME}",'
    ' password: "${env:WORD}"}}, success_when: "status == 302"}'
)


def books() -> list[dict[str, Any]]:
    """Return the books of the site."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return [
        {
            "id": n,
            "title": f"Book {n} — «{n % 7}»",
            "pages": n * 13 % 900,
            "updated": (start + timedelta(hours=n)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for n in range(1, BOOKS + 1)
    ]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Run the site and yield its URL."""
    python = python_of("django")
    shutil.copy(Path(environment.__file__).with_name("django_site.py"), tmp_path)
    port = free_port()
    with served([str(python), "django_site.py", str(port)], port, tmp_path) as url:
        yield url


def test_declared_and_detected_paginations_yield_all_books(site: str, tmp_path: Path) -> None:
    """Each pagination yields every book once; a throttle's Retry-After is waited for."""
    (tmp_path / "books.yaml").write_text(CONFIG.replace("URL", site))
    scrape = Command(tmp_path, "books.yaml")
    output = scrape.run()
    for name in (file.stem for file in sorted((tmp_path / "out").glob("*.jsonl"))):
        found = scrape.jsonl(f"out/{name}.jsonl")
        assert sorted(found, key=lambda book: book["id"]) == books(), name
    assert len(list((tmp_path / "out").glob("*.jsonl"))) == CONFIG.count("name: ") - 1
    assert "429" in output


@pytest.mark.parametrize(("path", "auth"), [("by-token/", BY_TOKEN), ("by-session/", BY_LOGIN)])
def test_token_and_form_logins_work(site: str, tmp_path: Path, path: str, auth: str) -> None:
    """Records behind a token with its own scheme, or a login form with a hidden token, can be read."""
    text = SIGNED_IN.replace("URL", site).replace("PATH", path).replace("AUTH", auth)
    (tmp_path / "members.yaml").write_text(text)
    env = {"TOKEN": TOKEN, "NAME": "ada", "WORD": "lovelace"}
    scrape = Command(tmp_path, "members.yaml", env=env)
    output = scrape.run()
    assert sorted(scrape.jsonl("out.jsonl"), key=lambda book: book["id"]) == books()
    assert not [secret for secret in (TOKEN, "lovelace") if secret in output]
