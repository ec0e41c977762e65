"""Hooks: results of handlers become items and follow-ups by the rules of the plan, and errors name the hook."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from scrapeq import Context, Page, Result, config
from scrapeq.errors import HookError, UsageError
from scrapeq.expression import compile_template
from scrapeq.plan import Endpoint, Paginator, Parent, Resource
from scrapeq.protocols import Extraction
from scrapeq.wiring import group_function
from scrapeq.worker.extraction import PART_SIZE, extractor_of
from scrapeq.worker.hook_calls import check_hooks, load_function

CONFIG = """\
version: 1
name: t
client: {base_url: "http://api.test/"}
seeds: [{shop: a}]
resources:
  - name: posts
    endpoint: {path: "posts/${seed.shop}", headers: {X-A: b}}
    primary_key: id
    priority: record.rank
    HOOKS
  - name: comments
    parent: {resource: posts, when: parent.comments > 0, priority: parent.updated}
    endpoint: "posts/${parent.id}/comments"
    include_from_parent: [title]
  - name: tags
    parent: {resource: posts, each: tags}
    primary_key: name
outputs: [{type: jsonl, path: "out/${resource}.jsonl"}]
"""
PAYLOAD: dict[str, Any] = {
    "v": 1,
    "resource": "posts",
    "method": "GET",
    "url": "http://api.test/posts/a",
    "headers": {"X-A": "b"},
    "body": None,
    "seed": {"shop": "a"},
    "depth": 0,
    "page": 1,
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that writes a module of hooks and returns a plan that refers to it."""
    names: list[str] = []
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def plan_of(source: str, hooks: str) -> Any:
        name = f"hooks_{tmp_path.name.replace('-', '_')}_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(source)
        path = tmp_path / "t.yaml"
        path.write_text(CONFIG.replace("HOOKS", hooks.replace("MODULE", name)))
        return config.load(path)

    yield plan_of
    for name in names:
        sys.modules.pop(name, None)


def extracted(plan: Any, body: Any, *, priority: float = 7.0, **changes: Any) -> list[Extraction]:
    """Return the chunks of one page."""
    page = Page(PAYLOAD["url"], 200, (("Content-Type", "application/json"),), orjson.dumps(body))

    async def chunks() -> list[Extraction]:
        extractor = extractor_of(plan, group_function(plan))
        return [chunk async for chunk in extractor.chunks({**PAYLOAD, **changes}, priority, page)]

    return asyncio.run(chunks())


HANDLER = """
def posts(page, context):
    for post in page.json()["list"]:
        yield {"id": post["id"], "title": post["title"]}
        yield context.follow("comments", post)
        yield context.follow("tags", post)
"""


def test_a_handler_replaces_the_declared_extraction(module: Any) -> None:
    """Keys, conditions and priorities still come from the plan; records of a resource without an endpoint are items."""
    plan = module(HANDLER, "handler: MODULE:posts")
    posts = [
        {"id": 1, "title": "a", "comments": 2, "updated": 30, "tags": [{"name": "x"}, {"name": "y"}]},
        {"id": 2, "title": "b", "comments": 0, "updated": 40, "tags": []},
        {"id": 3, "title": "c", "comments": 1, "rank": 20},
    ]
    (part,) = extracted(plan, {"list": posts})
    assert [(item.resource, item.key) for item in part.items] == [
        ("posts", "1"),
        ("tags", "x"),
        ("tags", "y"),
        ("posts", "2"),
        ("posts", "3"),
    ]
    assert part.items[0].record == {"id": 1, "title": "a"}
    urls = [(task.payload["url"], task.priority) for task in part.follow_ups]
    assert urls == [("http://api.test/posts/1/comments", 30), ("http://api.test/posts/3/comments", 20)]
    assert part.follow_ups[0].payload["parent"] == {"id": 1, "title": "a"}
    assert part.follow_ups[0].payload["depth"] == 1


def test_a_handler_may_pass_on_any_value(module: Any) -> None:
    """Integers beyond 64 bits are text, also in keys, and lone surrogates are U+FFFD, as in declared extraction."""
    source = "def posts(page, context):\n    yield {'id': 2**70, 'a': [{'b': '\\ud800'}, -(2**63)]}"
    plan = module(source, "handler: MODULE:posts")
    (part,) = extracted(plan, {})
    assert part.items[0].record == {"id": str(2**70), "a": [{"b": "\ufffd"}, -(2**63)]}
    assert part.items[0].key == str(2**70)


@pytest.mark.parametrize(
    "source",
    [
        "def posts(page, context):\n    return [{'id': 1}, {'id': 2}]",
        "def posts(page, context):\n    yield {'id': 1}\n    yield context.item({'id': 2})",
        "async def posts(page, context):\n    return ({'id': n} for n in (1, 2))",
        "async def posts(page, context):\n    yield {'id': 1}\n    yield {'id': 2}",
        "class Site:\n    def posts(self, page, context):\n        yield {'id': 1}\n        yield {'id': 2}\n"
        "site = Site()\nposts = site.posts",
    ],
    ids=["list", "generator", "async", "async generator", "method"],
)
def test_every_kind_of_function_is_a_handler(module: Any, source: str) -> None:
    """Functions, generators, their async forms, and methods return the same items."""
    (part,) = extracted(module(source, "handler: MODULE:posts"), {})
    assert [item.key for item in part.items] == ["1", "2"]


@pytest.mark.parametrize(("result", "keys"), [("None", []), ("{'id': 5}", ["5"]), ("()", [])])
def test_a_handler_may_return_one_record_or_none(module: Any, result: str, keys: list[str]) -> None:
    """A map is one record, not an iterable of its keys."""
    source = f"def posts(page, context):\n    return {result}"
    (part,) = extracted(module(source, "handler: MODULE:posts"), {})
    assert [item.key for item in part.items] == keys


def test_a_request_of_a_handler_has_its_own_settings_and_inherits_the_rest(module: Any) -> None:
    """URLs are relative to the page; a next page inherits headers and priority; other requests are a level deeper."""
    source = """
def posts(page, context):
    yield context.next_page("?page=2")
    yield context.request("/search", resource="comments", method="post", params={"q": ["a", "b"], "no": None},
                          json={"x": 1}, headers={"X-B": "c"}, priority="2001-09-09T01:46:40Z", parent={"title": "t"})
"""
    (part,) = extracted(module(source, "handler: MODULE:posts"), {})
    (other,), next_page = part.follow_ups, part.next_page
    assert next_page is not None
    assert (next_page.payload["url"], next_page.payload["page"]) == ("http://api.test/posts/a?page=2", 2)
    assert (next_page.payload["headers"], next_page.priority) == ({"X-A": "b"}, 7)
    assert other.payload["url"] == "http://api.test/search?q=a&q=b"
    assert (other.payload["method"], other.payload["body"], other.priority) == ("POST", '{"x":1}', 1e9)
    assert other.payload["headers"] == {"X-B": "c", "Content-Type": "application/json"}
    assert (other.payload["parent"], other.payload["parent_resource"]) == ({"title": "t"}, "posts")
    assert (other.payload["depth"], other.payload["seed"]) == (1, {"shop": "a"})


def test_the_paginator_applies_if_a_handler_yields_no_next_page(module: Any) -> None:
    """The paginator reads the decoded body, and the priority is that of the last record."""
    source = "def posts(page, context):\n    return [{'id': 1, 'rank': 50}]"
    plan = module(source, "handler: MODULE:posts")
    posts = plan.resource("posts")
    link = replace(posts.endpoint, paginator=Paginator("json_link", next_url_path="next"))
    resources = tuple(replace(one, endpoint=link) if one is posts else one for one in plan.resources)
    (part,) = extracted(replace(plan, resources=resources), {"next": "/posts/b"})
    assert part.next_page is not None
    assert (part.next_page.payload["url"], part.next_page.priority) == ("http://api.test/posts/b", 50)


def test_followed_nested_records_have_their_declared_children(module: Any) -> None:
    """Children of a resource without an endpoint are requested as on a page without a handler."""
    source = """
def posts(page, context):
    yield context.follow("tags", {"tags": [{"name": "x"}, {"name": None}]}, priority=3)
    yield context.follow("comments", {"id": 1, "comments": 1}, priority=4)
"""
    plan = module(source, "handler: MODULE:posts")
    tagged = Resource("tagged", Endpoint(path=compile_template("tags/${parent.name}")), (Parent("tags"),))
    (part,) = extracted(replace(plan, resources=(*plan.resources, tagged)), {})
    assert [item.record for item in part.items] == [{"name": "x"}, {"name": None}]
    assert part.skipped == 1
    urls = [(task.payload["url"], task.priority) for task in part.follow_ups]
    assert urls == [("http://api.test/tags/x", 7), ("http://api.test/posts/1/comments", 4)]


def test_results_of_a_handler_come_in_chunks(module: Any) -> None:
    """The first records are written before a generator has yielded the last ones."""
    source = f"def posts(page, context):\n    for n in range({PART_SIZE * 2 + 1}):\n        yield {{'id': n}}"
    chunks = extracted(module(source, "handler: MODULE:posts"), {})
    assert [len(chunk.items) for chunk in chunks] == [PART_SIZE, PART_SIZE, 1]


def test_on_page_may_replace_the_response(module: Any) -> None:
    """The page that it returns is extracted, and its context has the attributes of the task."""
    source = """
from dataclasses import replace
async def unwrapped(page, context):
    assert (context.resource, context.seed, context.page, context.priority) == ("posts", {"shop": "a"}, 1, 7.0)
    return replace(page, body=page.body[len(b'"cb('):-2].replace(b"'", b'"'))
"""
    (part,) = extracted(module(source, "on_page: MODULE:unwrapped"), "cb([{'id': 4}])")
    assert [item.key for item in part.items] == ["4"]


def test_on_item_changes_or_drops_records(module: Any) -> None:
    """A changed primary key changes the item's key; children read the unchanged record."""
    source = """
def tidy(record, context):
    record["comments"] = 0
    if record["id"] == 2:
        return None
    return {**record, "id": f"{context.seed['shop']}{record['id']}"} if record["id"] == 3 else record
"""
    posts = [{"id": n, "comments": n, "updated": 1} for n in (1, 2, 3)]
    parts = extracted(module(source, "on_item: MODULE:tidy"), posts)
    items = [item for part in parts for item in part.items]
    assert [(item.key, item.record["comments"]) for item in items] == [("1", 0), ("a3", 0)]
    assert sum(len(part.follow_ups) for part in parts) == 3


def test_on_item_applies_to_nested_records(module: Any) -> None:
    """A resource without an endpoint may have on_item, although its records are on its parent's page."""
    plan = module("def up(record, context):\n    return {'name': context.resource + record['name']}", "")
    tags = replace(plan.resource("tags"), on_item=f"{_last_module()}:up")
    resources = tuple(tags if one.name == "tags" else one for one in plan.resources)
    parts = extracted(replace(plan, resources=resources), [{"id": 1, "tags": [{"name": "x"}]}])
    items = [item for part in parts for item in part.items if item.resource == "tags"]
    assert [(item.key, item.record) for item in items] == [("tagsx", {"name": "tagsx"})]


def _last_module() -> str:
    return max(Path.cwd().glob("hooks_*.py")).stem


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return page.json()['nope']", "KeyError: 'nope' (MODULE.py:2)"),
        ("yield {}\n    raise SystemExit('enough')", "SystemExit: enough (MODULE.py:3)"),
        ("return 5", "returned a int; expected records (MODULE.py:1)"),
        ("return 'text'", "returned a str; expected records (MODULE.py:1)"),
        ("yield {'a': [1, {'b': {2}}]}", "a[1].b: JSON cannot hold a set (MODULE.py:1)"),
        ("yield {'a': {1: 2}}", "a: the name 1 is a int, not a string (MODULE.py:1)"),
        ("yield [1]", "a handler cannot yield a list"),
        ("yield context.item(3)", "a record must be a map of fields, not a int"),
        ("yield context.follow('coments', {})", "no resource is called 'coments'; did you mean comments?"),
        ("yield context.follow('posts', {})", "posts is not a child of posts: add `parent: posts` to it"),
        ("yield context.request('ftp://x/')", "'ftp://x/' is not an http(s) URL"),
        ("yield context.next_page('ftp://x/')", "'ftp://x/' is not an http(s) URL"),
        (
            "yield context.next_page('?p=2', priority='soon')",
            "priority: 'soon' is neither a finite number nor a time",
        ),
        ("yield context.next_page('?p=2', priority=float('nan'))", "is neither a finite number nor a time"),
    ],
)
def test_an_error_of_a_hook_has_its_file_and_line(module: Any, body: str, message: str) -> None:
    """The message also names the hook and says what is wrong."""
    plan = module(f"def posts(page, context):\n    {body}", "handler: MODULE:posts")
    with pytest.raises(HookError) as caught:
        extracted(plan, {})
    name = _last_module()
    assert str(caught.value).startswith(f"handler {name}:posts: ")
    assert message.replace("MODULE", name) in str(caught.value)


@pytest.mark.parametrize(
    ("hook", "source", "message"),
    [
        ("on_page", "def f(page, context):\n    return b''", "returned a bytes; expected a Page or None"),
        ("on_item", "def f(record, context):\n    return 1", "a record must be a map of fields, not a int"),
        (
            "on_item",
            "def f(record, context):\n    record.x",
            "AttributeError: 'dict' object has no attribute 'x'",
        ),
    ],
)
def test_a_wrong_result_of_on_page_or_on_item_is_an_error(
    module: Any, hook: str, source: str, message: str
) -> None:
    """on_page must return a page, on_item a record."""
    with pytest.raises(HookError, match=f"^{hook} .*{message}"):
        extracted(module(source, f"{hook}: MODULE:f"), [{"id": 1}])


@pytest.mark.parametrize(
    ("source", "reference", "message"),
    [
        ("", "no_such_module:f", "module 'no_such_module' not found"),
        ("def parse(page, context): ...", "MODULE:prase", "does not define prase\ndid you mean parse?"),
        ("def f(page): ...", "MODULE:f", "takes (page), but is called with (page, context)"),
        ("def f(page, context, *, more): ...", "MODULE:f", "takes (page, context, *, more)"),
        ("f = 3", "MODULE:f", "is a int, not a function"),
        ("x = 1/0", "MODULE:f", "cannot be imported: ZeroDivisionError: division by zero (MODULE.py:1)"),
        ("import no_such_module", "MODULE:f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "MODULE:f", "cannot be imported: invalid syntax (MODULE.py:1)"),
        ("raise SystemExit", "MODULE:f", "cannot be imported: SystemExit"),
    ],
)
def test_an_unusable_function_is_one_error_at_its_key(
    module: Any, source: str, reference: str, message: str
) -> None:
    """The error is found before any request is sent."""
    plan = module(source, f"handler: {reference}")
    (problem,) = check_hooks(plan)
    message = message.replace("MODULE", _last_module())
    assert message in f"{problem.message}\n{problem.hint}"
    assert (problem.line, problem.field) == (10, "resources[0].handler")


def test_a_hook_that_blocks_its_process_is_reported_once(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event names the hook and for how long it blocked the event loop."""
    moments = itertools.count(0, 3)
    clock = SimpleNamespace(monotonic=lambda: next(moments))
    monkeypatch.setattr("scrapeq.worker.hook_calls.time", clock)
    plan = module("def posts(page, context):\n    return [{'id': 1}]", "handler: MODULE:posts")
    events = [event for part in extracted(plan, {}) for event in part.events]
    (event,) = events
    assert event.startswith(
        f"slow   handler {_last_module()}:posts blocked all requests of its process for 3.0 s"
    )


@pytest.mark.parametrize(
    "statement", ["await asyncio.Event().wait()", "yield {'id': await asyncio.Event().wait()}"]
)
def test_a_hook_that_never_returns_times_out(
    module: Any, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Otherwise its task would keep its slot forever. A TimeoutError of the hook itself is reported unchanged."""
    monkeypatch.setattr("scrapeq.worker.hook_calls.RESULT_TIMEOUT_S", 0.01)
    source = f"import asyncio\nasync def posts(page, context):\n    {statement}"
    with pytest.raises(HookError, match=r"no result for 0\.01 s"):
        extracted(module(source, "handler: MODULE:posts"), {})
    source = "async def posts(page, context):\n    raise TimeoutError('mine')"
    with pytest.raises(HookError, match="TimeoutError: mine"):
        extracted(module(source, "handler: MODULE:posts"), {})


def test_on_item_cannot_be_a_generator() -> None:
    """It returns one record, so `yield` in it is an error before the run starts."""
    with pytest.raises(UsageError, match="is a generator, but must return one record"):
        load_function(f"{__name__}:_generator", "on_item")


def _generator(record: dict[str, Any], context: Context) -> Iterator[dict[str, Any]]:
    yield record


def test_typed_handlers_match_the_public_types() -> None:
    """A synchronous and an async handler are assignable to `Handler`."""

    def synchronous(page: Page, context: Context) -> Iterator[Result]:
        yield {"id": 1}

    async def asynchronous(page: Page, context: Context) -> AsyncIterator[Result]:
        yield context.item({"id": 1})

    from scrapeq.hooks import Handler

    handlers: list[Handler] = [synchronous, asynchronous]
    assert all(callable(handler) for handler in handlers)
