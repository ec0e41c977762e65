"""`scrapeq.testing.scrape_page`: extracts a given page with a configuration, its hooks and its response actions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scrapeq.errors import ConfigError, HookError, UsageError
from scrapeq.testing import page_of, scrape_page

CONFIG = """\
version: 1
name: t
client: {base_url: "https://api.test/v1", auth: {type: bearer, token: "${env:T_TOKEN}"}}
seeds: [{shop: a}, {shop: b}]
resources:
  - name: orders
    endpoint:
      path: shops/${seed.shop}/orders
      params: {since: "${incremental.start_value}"}
      incremental: {cursor_path: at, initial_value: 10}
      paginator: {type: json_link, next_url_path: next}
    primary_key: id
    priority: record.at
  - name: lines
    parent: {resource: orders, when: parent.lines > 0}
    endpoint: orders/${parent.id}/lines
    on_item: t_hooks:line
response_actions:
  - {match: {status: 404}, action: ignore}
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
HOOKS = "def line(record, context):\n    return {**record, 'order': context.parent['id']}\n"
ENV = {"T_TOKEN": "a-token"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a configuration and a module with its hook; return the path of the configuration."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "t_hooks.py").write_text(HOOKS)
    path = tmp_path / "t.yaml"
    path.write_text(CONFIG)
    return path


def test_a_page_gives_items_follow_ups_and_the_next_page(file: Path) -> None:
    """The first seed is used; keys, priorities and the paginator are those of the plan."""
    page = page_of(
        json={"items": [{"id": 1, "at": 20, "lines": 2}, {"id": 2, "at": 15, "lines": 0}], "next": "?p=2"}
    )
    scraped = scrape_page(file, "orders", page, env=ENV)
    assert scraped.outcome.action == "success"
    assert [(item.key, item.record["at"]) for item in scraped.items] == [("1", 20), ("2", 15)]
    (lines,) = scraped.follow_ups
    assert (lines.resource, lines.url, lines.priority) == ("lines", "https://api.test/v1/orders/1/lines", 20)
    assert lines.parent["id"] == 1
    assert scraped.next_page is not None and scraped.cursor_state is None
    assert (scraped.next_page.url, scraped.next_page.page) == ("https://api.test/v1/shops/a/orders?p=2", 2)


def test_a_cursor_state_can_be_passed_to_the_next_run(file: Path) -> None:
    """The last page gives the highest cursor; the next request starts from it."""
    scraped = scrape_page(file, "orders", page_of(json=[{"id": 1, "at": 20}]), seed={"shop": "b"}, env=ENV)
    assert scraped.cursor_state is not None and scraped.cursor_state["cursor"] == 20
    following = scrape_page(file, "orders", page_of(json=[]), cursor_state=scraped.cursor_state, env=ENV)
    assert (scraped.request.url, following.request.url) == (
        "https://api.test/v1/shops/b/orders?since=10",
        "https://api.test/v1/shops/a/orders?since=20",
    )


def test_records_of_a_handler_advance_the_cursor(file: Path) -> None:
    """The last page has the highest value of all pages, whether the handler or the paginator finds the next page."""
    hooks = (
        "def orders(page, context):\n"
        "    for order in page.json()['orders']:\n"
        "        yield order\n"
        "    if context.page == 1:\n"
        "        yield context.next_page('?p=2')\n"
    )
    (file.parent / "t_orders.py").write_text(hooks)
    text = file.read_text().replace(
        "    primary_key: id", "    primary_key: id\n    handler: t_orders:orders", 1
    )
    file.write_text(text)
    first = scrape_page(
        file, "orders", page_of(json={"orders": [{"id": 1, "at": 20}], "next": "?p=9"}), env=ENV
    )
    assert first.cursor_state is None and first.next_page is not None
    assert (first.next_page.url.rpartition("?")[2], first.next_page.priority) == ("p=2", 20)
    page = page_of(json={"orders": [{"id": 2, "at": 30}, {"id": 3, "at": 25}], "next": "?p=9"})
    second = scrape_page(file, "orders", page, number=2, env=ENV)
    assert second.next_page is not None and second.next_page.url.endswith("?p=9")
    page = page_of(json={"orders": [{"id": 2, "at": 30}, {"id": 3, "at": 25}]})
    last = scrape_page(file, "orders", page, number=3, env=ENV)
    assert last.next_page is None and last.cursor_state is not None and last.cursor_state["cursor"] == 30
    assert [item.seed for item in last.items] == [{"shop": "a"}] * 2


def test_hooks_run_and_their_errors_name_them(file: Path) -> None:
    """A child's page has its parent; the error has the message that the dead letter of a run would have."""
    scraped = scrape_page(file, "lines", page_of(json=[{"n": 1}]), parent={"id": 7}, env=ENV)
    assert scraped.records("lines") == [{"n": 1, "order": 7}]
    with pytest.raises(HookError, match=r"^on_item t_hooks:line: TypeError: .*t_hooks.py:2\)$"):
        scrape_page(file, "lines", page_of("https://api.test/v1/orders/7/lines", json=[{"n": 1}]), env=ENV)


@pytest.mark.parametrize(
    ("status", "headers", "action"),
    [
        (404, {}, "ignore"),
        (429, {"Retry-After": "30"}, "rate_limited"),
        (503, {}, "retry"),
        (401, {}, "dead_letter"),
    ],
)
def test_an_unsuccessful_response_has_an_outcome_and_is_not_extracted(
    file: Path, status: int, headers: dict[str, str], action: str
) -> None:
    """The actions of the file come first, then the built-in ones."""
    scraped = scrape_page(file, "orders", page_of(json=[{"id": 1}], status=status, headers=headers), env=ENV)
    assert (scraped.outcome.action, scraped.items) == (action, [])
    if action == "rate_limited":
        assert scraped.outcome.wait_s == 30


def test_pages_are_created_from_bytes_text_json_or_files(tmp_path: Path) -> None:
    """The content type matches the kind of body, unless the headers give another one."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    pages = {
        "text/csv": page_of(file=path),
        "text/html; charset=utf-8": page_of(text="<p>é</p>"),
        "text/plain; charset=utf-8": page_of(text="plain"),
        "application/json": page_of(json={"a": 1}),
        "application/vnd.x+json": page_of(json=[], headers={"content-type": "application/vnd.x+json"}),
        None: page_of(body=b"\x00"),
    }
    assert {page.header("content-type") for page in pages.values()} == set(pages)
    assert all(page.header("content-type") == kind for kind, page in pages.items())
    with pytest.raises(UsageError, match="got json and text; give one of them"):
        page_of(json=1, text="x")


async def test_it_can_be_called_in_an_async_test(file: Path) -> None:
    """An event loop is already running there."""
    assert scrape_page(file, "orders", page_of(json=[{"id": 1}]), env=ENV).records() == [{"id": 1}]


def test_errors_are_raised_unchanged(file: Path) -> None:
    """Covers errors of the configuration and of the call."""
    with pytest.raises(ConfigError, match="T_TOKEN"):
        scrape_page(file, "orders", page_of(json=[]))
    with pytest.raises(UsageError, match="no resource is called 'order'"):
        scrape_page(file, "order", page_of(json=[]), env=ENV)
    with pytest.raises(UsageError, match="lines follows from orders"):
        scrape_page(file, "lines", page_of(json=[]), env=ENV)
